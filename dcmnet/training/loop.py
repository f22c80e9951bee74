"""The training loop: thin, and without a single wait for the device inside an epoch."""

from __future__ import annotations

import collections
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, Protocol

import jax
import numpy as np

from dcmnet.config import TrainingConfig
from dcmnet.training.checkpoints import Checkpoints
from dcmnet.training.log import EpochRecord
from dcmnet.training.statistics import Accumulator, Sums
from dcmnet.training.step import Gradient, Steps, TrainState
from pipeline.loader import BatchShape, MoleculeBatch
from store_schema.problems import TrainingError

# Batches in flight: enough to keep the device busy, few enough to bound memory.
_IN_FLIGHT = 2
# Batches whose statistics wait on the device before they are fetched together.
_FETCH_EVERY = 64


class BatchIterator(Protocol):
    """Endless batches whose place can be saved."""

    def __next__(self) -> MoleculeBatch: ...

    def get_state(self) -> dict[str, Any]:
        """Returns the place of the next batch."""
        ...

    def set_state(self, state: dict[str, Any]) -> None:
        """Goes to a place."""
        ...


class Data(NamedTuple):
    """The molecules of a run.

    Attributes:
        train: Iterator over the training batches, epoch after epoch.
        batches_per_epoch: Batches of one epoch of it.
        padding_waste: Share of its entries that is padding.
        valid: Makes one pass over the validation batches.
    """

    train: BatchIterator
    batches_per_epoch: int
    padding_waste: float
    valid: Callable[[], Iterator[MoleculeBatch]]


class Progress(NamedTuple):
    """Where a run stands between two epochs."""

    epoch: int = 0
    best: float = float("inf")
    best_epoch: int = 0


class _Clock:
    """Times an epoch: training, compiling, waiting for batches."""

    def __init__(self) -> None:
        self.start = time.perf_counter()
        self.compiling = 0.0
        self.waiting = 0.0
        self.compiled_molecules = 0


class Trainer:
    """Trains a network epoch by epoch.

    Attributes:
        state: The state, replaced by each update.
    """

    def __init__(
        self, steps: Steps, state: TrainState, config: TrainingConfig, schedule: Callable[..., Any]
    ) -> None:
        self.steps = steps
        self.state = state
        self.config = config
        self.schedule = schedule
        self._compiled: set[BatchShape] = set()

    def run_epoch(
        self, data: Data, epoch: int, on_batch: Callable[[], None] = lambda: None
    ) -> EpochRecord:
        """Trains one epoch and validates.

        Args:
            data: The molecules.
            epoch: Counted from 1.
            on_batch: Called after each batch has been handed to the device.

        Raises:
            TrainingError: The loss is not finite.
        """
        clock = _Clock()
        sums = Accumulator()
        pending: list[dict[str, Sums]] = []
        flight: collections.deque[Any] = collections.deque()
        norms: list[jax.Array] = []
        gradient: Gradient | None = None
        molecules = 0
        for index in range(data.batches_per_epoch):
            batch = self._next(data.train, flight, clock)
            size = int(np.count_nonzero(batch.molecule_mask))
            molecules += size
            called = time.perf_counter()
            last = index == data.batches_per_epoch - 1
            gradient, norm, statistics = self._step(gradient, batch, index, last)
            if batch.shape not in self._compiled:
                self._compiled.add(batch.shape)
                clock.compiling += time.perf_counter() - called
            norms += [] if norm is None else [norm]
            pending.append(statistics)
            flight.append(statistics["loss"].total)
            if len(flight) > _IN_FLIGHT:
                flight.popleft().block_until_ready()
            if len(pending) >= _FETCH_EVERY:
                sums.add(pending)
                pending.clear()
            on_batch()
        sums.add(pending)
        trained = time.perf_counter() - clock.start
        train = sums.metrics()
        self._check_finite(train, epoch)
        busy = max(trained - clock.compiling, 1e-9)
        return EpochRecord(
            epoch=epoch,
            train=train,
            valid=self.evaluate(data.valid()),
            seconds=time.perf_counter() - clock.start,
            molecules_per_second=molecules / busy,
            input_wait_fraction=min(clock.waiting / busy, 1.0),
            padding_waste=data.padding_waste,
            compile_seconds=clock.compiling,
            learning_rate=float(self.schedule(max(int(self.state.updates) - 1, 0))),
            gradient_norm=float(np.mean(jax.device_get(norms))) if norms else 0.0,
            updates=int(self.state.updates),
            best=False,
        )

    def _next(
        self, iterator: BatchIterator, flight: collections.deque[Any], clock: _Clock
    ) -> MoleculeBatch:
        # Reading while the device still computes is no wait; only an idle device waits.
        asked = time.perf_counter()
        batch = next(iterator)
        if not flight or flight[-1].is_ready():
            clock.waiting += time.perf_counter() - asked
        return batch

    def _step(
        self, gradient: Gradient | None, batch: MoleculeBatch, index: int, last: bool
    ) -> tuple[Gradient | None, jax.Array | None, dict[str, Sums]]:
        every = self.config.gradient_accumulation_steps
        if every == 1:
            self.state, report = self.steps.train(self.state, batch)
            return None, report.gradient_norm, report.statistics
        gradient, statistics = self.steps.accumulate(self.state.params, gradient, batch)
        if (index + 1) % every and not last:
            return gradient, None, statistics
        self.state, norm = self.steps.update(self.state, gradient)
        return None, norm, statistics

    def evaluate(self, batches: Iterator[MoleculeBatch]) -> dict[str, float]:
        """Returns the metrics of the averaged parameters; empty without batches."""
        sums = Accumulator()
        sums.add(self.steps.evaluate(self.state.ema_params, batch) for batch in batches)
        return sums.metrics()

    def _check_finite(self, train: dict[str, float], epoch: int) -> None:
        loss = train.get("loss", float("nan"))
        if np.isfinite(loss):
            return
        raise TrainingError.of(
            f"epoch {epoch}",
            expected="a finite loss",
            received=f"{loss}",
            consequence="the run stopped; the last checkpoint, from before, is intact",
            remedy="Lower learning_rate or grad_clip_norm, and run 'dcmnet validate' on the store",
        )


def train(
    trainer: Trainer,
    data: Data,
    checkpoints: Checkpoints,
    progress: Progress,
    *,
    on_epoch: Callable[[EpochRecord], None],
    on_batch: Callable[[], None] = lambda: None,
) -> Progress:
    """Trains until the last epoch, early stopping or the time limit.

    After each epoch the latest checkpoint is saved, the best one where the validation
    improved, and a periodic one where it is due.

    Args:
        trainer: Holds the state; its configuration says how long.
        data: The molecules.
        checkpoints: Where to save.
        progress: Where the run stands.
        on_epoch: Called with each epoch's record, before its checkpoint is saved.
        on_batch: Called after each batch.

    Returns:
        Where the run stands now.
    """
    config = trainer.config
    started = time.perf_counter()
    while progress.epoch < config.num_epochs:
        epoch = progress.epoch + 1
        record = trainer.run_epoch(data, epoch, on_batch)
        value = _criterion(record)
        better = value < progress.best
        progress = Progress(
            epoch=epoch,
            best=value if better else progress.best,
            best_epoch=epoch if better else progress.best_epoch,
        )
        on_epoch(record.model_copy(update={"best": better}))
        saved = {**progress._asdict(), "iterator": data.train.get_state()}
        if better:
            checkpoints.save("best", epoch, trainer.state, saved)
        if config.save_every_n_epochs and epoch % config.save_every_n_epochs == 0:
            checkpoints.save("periodic", epoch, trainer.state, saved)
        checkpoints.save("latest", int(trainer.state.updates), trainer.state, saved)
        if _is_over(config, progress, time.perf_counter() - started):
            break
    checkpoints.wait()
    return progress


def _criterion(record: EpochRecord) -> float:
    metrics = record.valid or record.train
    return metrics.get("esp_rmse", metrics["loss"])


def _is_over(config: TrainingConfig, progress: Progress, seconds: float) -> bool:
    patience = config.early_stopping_epochs
    if patience is not None and progress.epoch - progress.best_epoch >= patience:
        return True
    limit = config.time_limit_minutes
    return limit is not None and seconds >= 60.0 * limit
