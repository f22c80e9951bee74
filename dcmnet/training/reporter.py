"""What a run reports while it runs: bar, tables, ``metrics.jsonl``, and its followers."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Final, Self

from rich.console import Console

from dcmnet.config import TrainingConfig
from dcmnet.console.progress import progress_bar
from dcmnet.experiment.metrics import EpochRecord, MetricsFile, print_epoch
from dcmnet.training.epoch import Data, Trainer
from dcmnet.training.followers import Follower

_COMPILING = "compiling"
# A summary takes as long as epochs of a few hundred molecules do; it is there to be looked at.
_SECONDS_BETWEEN_SUMMARIES: Final = 10.0


class Reporter:
    """Tells of a run; a context manager that shows a bar of the epoch's batches.

    The bar shows only on a terminal.
    """

    def __init__(
        self,
        console: Console,
        metrics: MetricsFile,
        followers: Sequence[Follower],
        trainer: Trainer,
        data: Data,
    ) -> None:
        """Notes where to report, and on what."""
        self._console, self._metrics, self._followers = console, metrics, followers
        self._trainer, self._data = trainer, data
        self._config: TrainingConfig = trainer.config
        # The same molecules each time, so that histograms compare.
        self._shown = next(data.valid(), None)
        self._summarised = -math.inf
        self._bar = progress_bar(console, "batches")
        self._task = self._bar.add_task(_COMPILING, total=data.batches_per_epoch)

    def on_batch(self) -> None:
        """Moves the bar."""
        self._bar.update(self._task, advance=1, description="training")

    def on_epoch(self, record: EpochRecord) -> None:
        """Tells what an epoch came to, to the disk before its checkpoint is saved."""
        self._metrics.append(record)
        for follower in self._followers:
            follower.on_epoch(record)
        if self._is_due(record.epoch, self._config.summary_every_n_epochs):
            self._summarise(record.epoch)
        if self._is_due(record.epoch, self._config.print_every_n_epochs):
            print_epoch(record, self._config.num_epochs, self._console)
        self._bar.reset(self._task, description="training")

    def enough(self) -> bool:
        """Tells whether a follower has the run end early."""
        return any(follower.enough() for follower in self._followers)

    def _summarise(self, epoch: int) -> None:
        is_early = time.monotonic() - self._summarised < _SECONDS_BETWEEN_SUMMARIES
        if not self._shown or (is_early and epoch < self._config.num_epochs):
            return
        params = self._trainer.averaged
        predicted = self._trainer.steps.predict(params, self._shown)
        for follower in self._followers:
            follower.on_summary(epoch, params, predicted, self._shown)
        self._summarised = time.monotonic()

    def _is_due(self, epoch: int, every: int) -> bool:
        # The first epoch shows that the run works, the last what it came to.
        return bool(every) and (epoch in {1, self._config.num_epochs} or epoch % every == 0)

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._bar.stop()


class Silence:
    """Tells nothing: what processes have that do not write."""

    def on_batch(self) -> None:
        """Called when a batch was handed to the device."""

    def on_epoch(self, record: EpochRecord) -> None:
        """Called at the end of an epoch."""

    def enough(self) -> bool:
        """Leaves it to the process that writes."""
        return False
