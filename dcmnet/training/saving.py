"""When checkpoints are saved: often enough to lose seconds, seldom enough to cost none."""

from __future__ import annotations

import math
import time
from types import TracebackType
from typing import Final, NamedTuple, Self

import jax
import jax.numpy as jnp

from dcmnet.experiment.checkpoints import Checkpoints, Series
from dcmnet.experiment.state import Progress, TrainState
from dcmnet.training.epoch import Trainer

# What a killed run may lose, besides an epoch. Saving takes a tenth of a second of both cores,
# which is longer than an epoch of a hundred molecules.
_SECONDS_BETWEEN: Final = 10.0

_copied = jax.jit(lambda state: jax.tree.map(jnp.copy, state))


class _Epoch(NamedTuple):
    state: TrainState
    progress: Progress


class Saving:
    """Saves the checkpoints of a run.

    The latest is saved after the first epoch, then after each that ends ten seconds or more
    after the last save, and with it the best; both are kept in memory until then. Periodic
    ones are saved where ``save_every_n_epochs`` asks for them.
    """

    def __init__(self, trainer: Trainer, checkpoints: Checkpoints) -> None:
        """Takes whose state is saved, and where."""
        self._trainer, self._checkpoints = trainer, checkpoints
        self._last_save = -math.inf
        self._best: _Epoch | None = None
        self._latest: _Epoch | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Saves the last epoch and the best one, also of a run that breaks, and waits."""
        self.save()
        self._checkpoints.wait()

    def after_epoch(self, progress: Progress) -> None:
        """Saves an epoch that has ended where it is due."""
        every = self._trainer.config.save_every_n_epochs
        # A copy, as the next update would reuse its memory.
        self._latest = _Epoch(_copied(self._trainer.state), progress)
        if progress.best_epoch == progress.epoch:
            self._best = self._latest
        if every and progress.epoch % every == 0:
            self._save("periodic", *self._latest)
        if time.monotonic() - self._last_save >= _SECONDS_BETWEEN:
            self.save()

    def inside_epoch(self, progress: Progress) -> None:
        """Notes where a run stands that stops inside an epoch."""
        self._latest = _Epoch(self._trainer.state, progress)

    def save(self) -> None:
        """Saves what is not yet, and begins with the latest when all others are whole.

        So a run that is resumed from the latest has them.
        """
        if self._latest is None:
            return
        if self._best is not None:
            self._save("best", *self._best)
        self._checkpoints.wait()
        self._save("latest", *self._latest)
        self._best = self._latest = None
        self._last_save = time.monotonic()

    def _save(self, series: Series, state: TrainState, progress: Progress) -> None:
        step = int(state.updates) if series == "latest" else progress.epoch
        self._checkpoints.save(series, step, state, progress)
