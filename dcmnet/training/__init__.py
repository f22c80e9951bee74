"""Training: losses, steps, epochs, checkpoints; ``train_model`` for notebooks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dcmnet.notebook import train_model

__all__ = ["train_model"]


def __getattr__(name: str) -> Any:
    """Imports on first use: ``train_model`` stands on the runner, which stands on this package."""
    if name == "train_model":
        from dcmnet.notebook import train_model

        return train_model
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
