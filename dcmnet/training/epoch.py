"""One epoch: batches handed to the device without a wait, and what they come to."""

from __future__ import annotations

import collections
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cached_property
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

import numpy as np

from dcmnet.config import TrainingConfig
from dcmnet.experiment.metrics import EpochRecord
from dcmnet.experiment.state import TrainState
from dcmnet.model import Parameters
from dcmnet.training.processes.devices import Devices
from dcmnet.training.statistics import ENTRIES, TOTAL, Accumulator
from dcmnet.training.step import BatchReport, Gradient, StepReport, Steps
from pipeline.loader import BatchShape, MoleculeBatch
from store_schema.problems import TrainingError

# Batches in flight: enough to keep the device busy, few enough to bound memory.
_IN_FLIGHT = 2
# Batches whose reports wait on the device before they are fetched together.
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
        batches_per_update: Batches that are summed before each update.
        padding_waste: Share of its entries that is padding.
        valid: Makes one pass over the validation batches.
        valid_of_others: The same of further stores, by path.
        names: Returns the names of molecules, given their indices in the store.
        notes: What users should know of them.
    """

    train: BatchIterator
    batches_per_epoch: int
    batches_per_update: int
    padding_waste: float
    valid: Callable[[], Iterator[MoleculeBatch]]
    names: Callable[[Iterable[int]], list[str]]
    notes: tuple[str, ...] = ()
    valid_of_others: Mapping[str, Callable[[], Iterator[MoleculeBatch]]] = MappingProxyType({})


class Trainer:
    """A network under training.

    Attributes:
        state: The state, replaced by each update.
        steps: The compiled functions.
        config: How it is trained.
        schedule: Learning rate by number of updates.
        devices: What it runs on.
        compiled: Shapes that have been compiled.
    """

    def __init__(
        self,
        steps: Steps,
        state: TrainState,
        config: TrainingConfig,
        schedule: Callable[..., Any],
        devices: Devices | None = None,
    ) -> None:
        self.devices = devices or Devices()
        self.state = state
        self.steps = steps
        self.config = config
        self.schedule = schedule
        self.compiled: set[BatchShape] = set()

    @cached_property
    def no_gradient(self) -> Gradient:
        """What the first batch of every update is added to."""
        return self.steps.no_gradient(self.state.params)

    @property
    def averaged(self) -> Parameters:
        """The averaged parameters, for one device."""
        return self.devices.local(self.state.ema_params)

    def evaluate(self, batches: Iterator[MoleculeBatch]) -> dict[str, float]:
        """Returns the metrics of the averaged parameters; empty without batches."""
        sums = Accumulator()
        sums.add(self.steps.evaluate(self.state.ema_params, batch) for batch in batches)
        return sums.metrics()


class Epoch:
    """An epoch under way, which can be saved between two updates and resumed.

    Attributes:
        number: Counted from 1.
        batches: Batches done.
    """

    def __init__(
        self, trainer: Trainer, data: Data, number: int, saved: dict[str, Any] | None = None
    ) -> None:
        """Begins an epoch, or resumes one that was saved."""
        self.number = number
        self._trainer, self._data = trainer, data
        self._sums = Accumulator()
        self._reports: list[tuple[MoleculeBatch, BatchReport | StepReport]] = []
        self._flight: collections.deque[Any] = collections.deque()
        self._gradient: Gradient | None = None
        self._start = time.perf_counter()
        self._compiling = self._waiting = 0.0
        self._molecules = 0
        saved = saved or {"batches": 0, "norms": [], "sums": {}}
        self.batches = int(saved["batches"])
        self._norms = [float(norm) for norm in saved["norms"]]
        self._sums.restore(saved["sums"])

    def state(self) -> dict[str, Any]:
        """Returns what ``saved`` takes, as plain numbers."""
        self._fetch()
        return {"batches": self.batches, "norms": self._norms, "sums": self._sums.state()}

    def run(self, stop: Callable[[], bool], on_batch: Callable[[], None]) -> bool:
        """Trains until the epoch ends or is stopped; returns whether it ended.

        Args:
            stop: Asked after each update.
            on_batch: Called after each batch has been handed to the device.

        Raises:
            TrainingError: The loss of a molecule is not finite.
        """
        while self.batches < self._data.batches_per_epoch:
            batch = self._next()
            called = time.perf_counter()
            report = self._step(batch)
            if batch.shape not in self._trainer.compiled:
                self._trainer.compiled.add(batch.shape)
                self._compiling += time.perf_counter() - called
            self.batches += 1
            self._reports.append((batch, report))
            self._flight.append(report.finite)
            if len(self._flight) > _IN_FLIGHT:
                self._flight.popleft().block_until_ready()
            if len(self._reports) >= _FETCH_EVERY:
                self._fetch()
            on_batch()
            if self._gradient is None and stop():
                break
        self._fetch()
        return self.batches == self._data.batches_per_epoch

    def record(self) -> EpochRecord:
        """Validates, and returns what the epoch came to."""
        trainer = self._trainer
        # The process that waits longest is waited for by the others.
        elapsed, self._compiling, waiting = trainer.devices.processes.largest(
            [time.perf_counter() - self._start, self._compiling, self._waiting]
        )
        busy = max(elapsed - self._compiling, 1e-9)
        updates = int(trainer.state.updates)
        return EpochRecord(
            epoch=self.number,
            train=self._sums.metrics(),
            valid=trainer.evaluate(self._data.valid()),
            seconds=time.perf_counter() - self._start,
            molecules_per_second=self._molecules / busy,
            input_wait_fraction=min(waiting / busy, 1.0),
            padding_waste=self._data.padding_waste,
            compile_seconds=self._compiling,
            learning_rate=float(trainer.schedule(max(updates - 1, 0))),
            gradient_norm=float(np.mean(self._norms)),
            updates=updates,
            best=False,
            valid_of_others={
                store: trainer.evaluate(batches())
                for store, batches in self._data.valid_of_others.items()
            },
        )

    def _next(self) -> MoleculeBatch:
        # Reading while the device still computes is no wait; only an idle device waits.
        asked = time.perf_counter()
        batch = next(self._data.train)
        if not self._flight or self._flight[-1].is_ready():
            self._waiting += time.perf_counter() - asked
        return batch

    def _step(self, batch: MoleculeBatch) -> BatchReport | StepReport:
        trainer = self._trainer
        every = self._data.batches_per_update
        before = trainer.no_gradient if self._gradient is None else self._gradient
        self._gradient, micro = trainer.steps.accumulate(trainer.state.params, before, batch)
        done = self.batches + 1
        if done % every and done < self._data.batches_per_epoch:
            return micro
        trainer.state, norm = trainer.steps.update(trainer.state, self._gradient)
        self._gradient = None
        return StepReport(*micro, norm)

    def _fetch(self) -> None:
        """Takes the reports from the device, in one transfer, and looks at them."""
        batches = [batch for batch, _ in self._reports]
        reports = self._trainer.devices.fetch([report for _, report in self._reports])
        self._reports.clear()
        for batch, report in zip(batches, reports, strict=True):
            # Several devices are filled up with empty molecules, which stand behind.
            finite = report.finite[: batch.shape.molecules]
            loss = report.statistics["loss"]
            self._molecules += int(loss[ENTRIES])
            if not np.isfinite(loss[TOTAL]):  # the same on all processes
                with self._trainer.devices.processes.together():
                    if not finite.all():
                        raise self._not_finite(batch.molecule_index[~finite])
            if isinstance(report, StepReport):
                self._norms.append(float(report.gradient_norm))
        self._sums.add(report.statistics for report in reports)

    def _not_finite(self, molecules: np.ndarray) -> TrainingError:
        names = self._data.names(molecules[molecules >= 0].tolist())
        shown = ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
        return TrainingError.of(
            f"epoch {self.number}",
            wrong=f"a loss is not finite, first that of {shown}",
            consequence="the run stopped; the last checkpoint, from before, is intact",
            remedy="Look at these molecules with xarray, or lower training.learning_rate",
        )
