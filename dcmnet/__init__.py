"""DCM-Net: model, training, analysis and command line for distributed charges."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dcmnet.experiment.directory import load_model
    from dcmnet.train_runner import run_training

__all__ = ["load_model", "run_training"]


def __getattr__(name: str) -> Any:
    """Imports on first use, so that the command line does not wait for JAX to say help."""
    if name == "load_model":
        from dcmnet.experiment.directory import load_model

        return load_model
    if name == "run_training":
        from dcmnet.train_runner import run_training

        return run_training
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
