"""Sweeps: many experiments over a space of settings, with Optuna (the extra ``sweep``)."""

from __future__ import annotations

from store_schema.extras import extra

with extra("sweep", "a sweep"):
    import optuna as _optuna  # noqa: F401

from dcmnet.sweep.outcome import SweepOutcome
from dcmnet.sweep.run import run_sweep
from dcmnet.sweep.space import SweepConfig, load_space

__all__ = ["SweepConfig", "SweepOutcome", "load_space", "run_sweep"]
