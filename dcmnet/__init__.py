"""DCM-Net: model, training, analysis and command line for distributed charges."""

from __future__ import annotations

from typing import TYPE_CHECKING

import lazy_loader

if TYPE_CHECKING:
    from dcmnet.experiment.directory import load_model
    from dcmnet.train_runner import run_training

__all__ = [
    "load_model",
    "run_training",
]

# On first use: the command line does not wait for JAX to say help.
__getattr__, __dir__, _ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "experiment.directory": ["load_model"],
        "train_runner": ["run_training"],
    },
)
