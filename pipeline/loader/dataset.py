"""The loader: a Grain dataset of batches, read from a store as its plan says."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import grain
import numpy as np
from jaxtyping import Int64

from pipeline.loader.augment import choose_points, rotate
from pipeline.loader.batch import BatchShape, MoleculeBatch
from pipeline.loader.gather import gather
from pipeline.loader.plan import LoaderPlan, PlanReport
from pipeline.loader.source import StoreReader
from pipeline.loader.windows import Key, WindowReader
from store_schema.problems import CheckpointError

_EPOCHS_KEPT = 2  # the one in use, and the one that is read ahead


@dataclass(frozen=True)
class BatchOptions:
    """How a loader makes its batches.

    Attributes:
        cutoff: Distance in Å below which two atoms are a pair.
        shard: This process.
        epochs: First epoch, and the one after the last; None for no end.
        grid_points: Points chosen of each molecule and epoch; None for all.
        rotate: Turn every molecule at random.
        prefetch: Batches made ahead by a thread.
    """

    cutoff: float
    shard: int
    epochs: tuple[int, int | None]
    grid_points: int | None
    rotate: bool
    prefetch: int


class BatchDataset(grain.IterDataset[MoleculeBatch]):
    """Batches of a store.

    Attributes:
        plan: What makes each batch.
    """

    def __init__(self, reader: StoreReader, plan: LoaderPlan, options: BatchOptions) -> None:
        """Joins store, plan and options."""
        super().__init__()
        self.plan = plan
        self._reader, self._options = reader, options

    def __iter__(self) -> grain.DatasetIterator[MoleculeBatch]:
        """Returns an iterator from the first batch; `set_state` takes it elsewhere."""
        batches = _Batches(self._reader, self.plan, self._options)
        if not self._options.prefetch:
            return batches.__iter__()
        return grain.experimental.ThreadPrefetchIterDataset(
            batches, prefetch_buffer_size=self._options.prefetch
        ).__iter__()

    @property
    def n_molecules(self) -> int:
        """Molecules an epoch, of all processes."""
        return self.plan.n_molecules

    @property
    def batches_per_epoch(self) -> int:
        """Batches an epoch, the same on every process."""
        return self.plan.steps

    @cached_property
    def padding_waste(self) -> float:
        """Share of the bytes of the first epoch's batches that is padding."""
        return self.describe().padding_waste

    def __len__(self) -> int:
        """Returns the batches of an epoch."""
        return self.plan.steps

    def describe(self, epoch: int = 0) -> PlanReport:
        """Measures the plan of one epoch: shapes, padding, shuffle."""
        return self.plan.report(epoch)


class _Batches(grain.IterDataset[MoleculeBatch]):
    """Batches made where they are asked for."""

    def __init__(self, reader: StoreReader, plan: LoaderPlan, options: BatchOptions) -> None:
        super().__init__()
        self._parts = reader, plan, options

    def __iter__(self) -> grain.DatasetIterator[MoleculeBatch]:
        return BatchIterator(*self._parts)


class BatchIterator(grain.DatasetIterator[MoleculeBatch]):
    """Iterates over batches; its state is an epoch and a step."""

    def __init__(self, reader: StoreReader, plan: LoaderPlan, options: BatchOptions) -> None:
        """Begins at the first batch of the first epoch."""
        super().__init__()
        self._plan, self._options = plan, options
        self._epoch, self._step = options.epochs[0], 0
        # Asked by the thread that reads ahead, too.
        self._epoch_plan = lru_cache(_EPOCHS_KEPT)(plan.epoch)
        self._fingerprint = _fingerprint(plan)
        widths = buffer_widths(reader, plan.shapes)
        self._windows = WindowReader(reader, self._rows_of, self._after, widths)

    def __next__(self) -> MoleculeBatch:
        """Returns the next batch.

        Raises:
            StopIteration: The last epoch has ended.
            StoreError: The store cannot be read.
        """
        self._assert_not_closed()
        if not self._exists(self._epoch) or not self._plan.steps:
            raise StopIteration
        batch = self._make(self._epoch, self._step)
        self._step += 1
        if self._step == self._plan.steps:
            self._epoch, self._step = self._epoch + 1, 0
        return batch

    def get_state(self) -> dict[str, Any]:
        """Returns where the iterator is: the batch that comes next, and of which plan."""
        return {"epoch": self._epoch, "step": self._step, "plan": self._fingerprint}

    def set_state(self, state: dict[str, Any]) -> None:
        """Goes to the batch that came next when the state was taken.

        Raises:
            CheckpointError: The state lies inside an epoch of another plan.
        """
        epoch, step = int(state["epoch"]), int(state["step"])
        if step and state["plan"] != self._fingerprint:
            raise CheckpointError.of(
                f"epoch {epoch}, batch {step}",
                expected="the molecules, batch size, seed and processes of the interrupted run",
                received="others",
                consequence="the same batches cannot follow inside an epoch",
                remedy="Resume with the store and configuration of that run, or from the "
                "checkpoint of a finished epoch",
            )
        self._epoch, self._step = epoch, step

    def start_prefetch(self) -> None:
        """Begins to read the first window."""
        if self._exists(self._epoch) and self._plan.steps:
            window = int(self._epoch_plan(self._epoch).window[self._step])
            self._windows.start((self._epoch, window))

    def close(self) -> None:
        """Frees the windows; the iterator cannot be used after it."""
        if not self._closed:
            self._windows.close()
        super().close()

    def _exists(self, epoch: int) -> bool:
        end = self._options.epochs[1]
        return end is None or epoch < end

    def _make(self, epoch: int, step: int) -> MoleculeBatch:
        plan, options = self._epoch_plan(epoch), self._options
        buffer = self._windows.get((epoch, int(plan.window[step])))
        members = plan.members[step, options.shard]
        rows = self._plan.sizes.rows[members[members >= 0]]
        slots = np.searchsorted(buffer.rows, rows.astype(buffer.rows.dtype))
        shape = self._plan.shapes[plan.shape_index[step]]
        if options.grid_points is None and not options.rotate:
            return gather(buffer, slots, shape, options.cutoff)
        # Every batch has chance of its own, so that it is the same after a resume.
        rng = np.random.default_rng((self._plan.seed, epoch, step, options.shard))
        points = None
        if options.grid_points is not None:
            n_grid = buffer.n_grid[slots]
            points = choose_points(n_grid, options.grid_points, shape.grid_points, rng)
        batch = gather(buffer, slots, shape, options.cutoff, points)
        return rotate(batch, rng) if options.rotate else batch

    def _rows_of(self, key: Key) -> Int64[np.ndarray, " n"]:
        epoch, window = key
        plan = self._epoch_plan(epoch)
        first, stop = np.searchsorted(plan.window, (window, window + 1))
        members = plan.members[first:stop, self._options.shard].reshape(-1)
        return np.sort(self._plan.sizes.rows[members[members >= 0]])

    def _after(self, key: Key) -> Key | None:
        epoch, window = key
        following = (epoch, window + 1) if window + 1 < self._plan.n_windows else (epoch + 1, 0)
        return following if self._exists(following[0]) else None


def buffer_widths(reader: StoreReader, shapes: Sequence[BatchShape]) -> tuple[int, int]:
    """Returns the atoms and grid points that hold every molecule and every shape."""
    return (
        max([int(reader.n_atoms.max(initial=1)), *(shape.atoms for shape in shapes)]),
        max([int(reader.n_grid.max(initial=0)), *(shape.grid_points for shape in shapes)]),
    )


def _fingerprint(plan: LoaderPlan) -> str:
    """Names a plan: two that agree make the same batches."""
    digest = hashlib.sha256()
    for array in (plan.sizes.rows, plan.sizes.n_atoms, plan.sizes.n_grid, plan.sizes.n_pairs):
        digest.update(array.tobytes())
    rest = (plan.shapes, plan.batch_size, plan.block_size, plan.window_steps)
    digest.update(repr((*rest, plan.n_shards, plan.shuffle, plan.seed)).encode())
    return digest.hexdigest()[:16]
