"""The loader: a Grain dataset of batches, read from a store as its plan says."""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import grain
import numpy as np
from jaxtyping import Int64

from pipeline.loader.augment import choose_points, random_rotations, rotate
from pipeline.loader.batch import BatchShape, MoleculeBatch
from pipeline.loader.gather import gather
from pipeline.loader.parts import WHOLE, Part
from pipeline.loader.plan import LoaderPlan, PlanReport, WindowPlan
from pipeline.loader.reader import StoreReader
from pipeline.loader.windows import Key, Window, WindowReader
from store_schema.problems import CheckpointError

_KEPT = 2  # of epochs and of windows: the one in use, and the one that is read ahead

Position = tuple[int, int]  # epoch, step


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
        part: What this process takes of the batches of its shard.
    """

    cutoff: float
    shard: int
    epochs: tuple[int, int | None]
    grid_points: int | None
    rotate: bool
    prefetch: int
    part: Part = WHOLE


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
        # One window per epoch: every iterator's epochs are made of it.
        self._kept: list[Window] | None = [] if plan.n_windows == 1 else None

    def with_shapes(self, shapes: Sequence[BatchShape]) -> BatchDataset:
        """Returns the dataset of the same molecules in batches of other shapes.

        Args:
            shapes: Which hold all batches, each of the same number of molecules.
        """
        size = shapes[0].molecules if shapes else self.plan.batch_size
        plan = dataclasses.replace(self.plan, shapes=tuple(shapes), batch_size=size)
        return BatchDataset(self._reader, plan, self._options)

    def __iter__(self) -> BatchIterator:
        """Returns an iterator from the first batch; `set_state` takes it elsewhere."""
        return BatchIterator(self._reader, self.plan, self._options, self._kept)

    @property
    def n_molecules(self) -> int:
        """Molecules per epoch, of all processes."""
        return self.plan.n_molecules

    @property
    def batches_per_epoch(self) -> int:
        """Batches per epoch, the same on every process."""
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


class BatchIterator(grain.DatasetIterator[MoleculeBatch]):
    """Iterates over batches; its state is an epoch and a step."""

    def __init__(
        self,
        reader: StoreReader,
        plan: LoaderPlan,
        options: BatchOptions,
        kept: list[Window] | None = None,
    ) -> None:
        """Begins at the first batch of the first epoch.

        Args:
            reader: Store.
            plan: What makes each batch.
            options: How.
            kept: Window that iterators of a loader share.
        """
        super().__init__()
        self._ahead: deque[tuple[Position, Future[MoleculeBatch]]] = deque()
        self._schedule = _Schedule(plan, options)
        self._maker = _BatchMaker(reader, self._schedule, kept)
        self._position: Position = (options.epochs[0], 0)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="dcm-batch")

    def __next__(self) -> MoleculeBatch:
        """Returns the next batch.

        Raises:
            StopIteration: The last epoch has ended.
            StoreError: The store cannot be read.
        """
        self._assert_not_closed()
        if not self._schedule.exists(self._position):
            raise StopIteration
        self._make_ahead()
        # A failed batch stays in front, so that asking again fails again.
        batch = self._ahead[0][1].result() if self._ahead else self._maker.make(self._position)
        if self._ahead:
            self._ahead.popleft()
        self._position = self._schedule.after(self._position)
        self._make_ahead()
        return batch

    def get_state(self) -> dict[str, Any]:
        """Returns where the iterator is: the batch that comes next, and of which plan."""
        epoch, step = self._position
        return {"epoch": epoch, "step": step, "plan": self._schedule.plan.fingerprint}

    def set_state(self, state: dict[str, Any]) -> None:
        """Goes to the batch that came next when the state was taken.

        Raises:
            CheckpointError: The state lies inside an epoch of another plan, or is none.
        """
        plan = self._schedule.plan
        epoch, step = (int(state.get(name, -1)) for name in ("epoch", "step"))
        if step > 0 and state.get("plan") != plan.fingerprint:
            raise CheckpointError.of(
                f"epoch {epoch}, batch {step}",
                wrong="the molecules, batch size, seed, processes or version of dcm-store are not "
                "those of the interrupted run",
                consequence="the same batches cannot follow inside an epoch",
                remedy="Resume with the store and configuration of that run, or from the "
                "checkpoint of a finished epoch",
            )
        if epoch < 0 or not 0 <= step < max(plan.steps, 1):
            raise CheckpointError.of(
                f"state {state!r}",
                wrong=f"this is no epoch and a batch of it below {plan.steps}",
                consequence="it is not known which batch came next",
                remedy="Give what get_state returned, of a loader of the same data",
            )
        self._drop_ahead()
        self._position = epoch, step

    def start_prefetch(self) -> None:
        """Begins to read the first window."""
        self._assert_not_closed()
        if self._schedule.options.prefetch:
            self._make_ahead()
        elif self._schedule.exists(self._position):
            self._maker.start(self._position)

    def close(self) -> None:
        """Waits for the read under way and frees the windows; it cannot be used after it."""
        if not self._closed:
            self._drop_ahead()
            self._thread.shutdown()
            self._maker.close()
        super().close()

    def __del__(self) -> None:
        """Lets go without waiting: the threads end, and free the windows, after their read.

        The collector runs in any thread, also in those that `close` would wait for.
        """
        for _, batch in self._ahead:
            batch.cancel()

    def _make_ahead(self) -> None:
        """Has the thread make the batches that come next."""
        following = self._ahead[-1][0] if self._ahead else None
        while len(self._ahead) < self._schedule.options.prefetch:
            following = self._schedule.after(following) if following else self._position
            if not self._schedule.exists(following):
                return
            self._ahead.append((following, self._thread.submit(self._maker.make, following)))

    def _drop_ahead(self) -> None:
        for _, batch in self._ahead:
            batch.cancel()
        wait([batch for _, batch in self._ahead])
        self._ahead.clear()


class _Schedule:
    """What comes when: batches and windows of each epoch."""

    def __init__(self, plan: LoaderPlan, options: BatchOptions) -> None:
        self.plan, self.options = plan, options
        # Asked by the thread that reads ahead, too.
        self._order = lru_cache(_KEPT)(plan.order)
        self.window = lru_cache(_KEPT)(self._window)

    def exists(self, position: Position) -> bool:
        """Whether there is a batch at a position."""
        end = self.options.epochs[1]
        return self.plan.steps > 0 and (end is None or position[0] < end)

    def after(self, position: Position) -> Position:
        """Returns the position of the batch that follows."""
        epoch, step = position
        return (epoch, step + 1) if step + 1 < self.plan.steps else (epoch + 1, 0)

    def window_of(self, position: Position) -> Key:
        """Returns the window that a batch is gathered from."""
        epoch, step = position
        return epoch, self.plan.window_of(step)

    def window_after(self, key: Key) -> Key | None:
        """Returns the window that follows."""
        epoch, window = key
        following = (epoch, window + 1) if window + 1 < self.plan.n_windows else (epoch + 1, 0)
        return following if self.exists(following) else None

    def rows_of(self, key: Key) -> Int64[np.ndarray, " n"]:
        """Returns the rows that a window of this process needs, ascending."""
        epoch, window = key
        members = self.window(epoch, window).members
        of_shard = members[:, self.options.shard]
        mine = self.options.part.of(of_shard)
        # A window that is kept for other epochs holds all there are; so does one that has
        # nothing for this process, since a batch of empty molecules is cut from some, too.
        if self.plan.n_windows > 1 and (mine >= 0).any():
            members = mine
        elif (of_shard >= 0).any():
            members = of_shard
        members = members.reshape(-1)
        return np.sort(self.plan.sizes.rows[members[members >= 0]]).astype(np.int64)

    def _window(self, epoch: int, window: int) -> WindowPlan:
        return self.plan.window(self._order(epoch), window)


class _BatchMaker:
    """Makes batches from windows; asked in their order it reads each window once."""

    def __init__(self, reader: StoreReader, schedule: _Schedule, kept: list[Window] | None) -> None:
        self._schedule = schedule
        self._n_grid = reader.n_grid
        widths = buffer_widths(reader, schedule.plan.shapes)
        self._windows = WindowReader(reader, schedule.rows_of, schedule.window_after, widths, kept)

    def start(self, position: Position) -> None:
        """Begins to read the window of a position."""
        self._windows.start(self._schedule.window_of(position))

    def close(self) -> None:
        """Frees the windows."""
        self._windows.close()

    def make(self, position: Position) -> MoleculeBatch:
        """Makes the batch of a position."""
        epoch, step = position
        key, options = self._schedule.window_of(position), self._schedule.options
        sizes, shapes = self._schedule.plan.sizes, self._schedule.plan.shapes
        buffer, window = self._windows.get(key), self._schedule.window(*key)
        here = step - window.first_step
        members, part = window.members[here, options.shard], options.part
        whole = shapes[window.shape_index[here]]
        shape = part.shape(whole, np.where(members < 0, np.int64(0), sizes.n_pairs[members]))
        mine = part.of(members)
        rows = sizes.rows[mine[mine >= 0]]
        slots = np.searchsorted(buffer.rows, rows.astype(buffer.rows.dtype))
        if options.grid_points is None and not options.rotate:
            return gather(buffer, slots, shape, options.cutoff)
        # Every batch has chance of its own, so that it is the same after a resume; that of
        # the others' molecules is drawn too, so that any number of processes draws the same.
        rng = np.random.default_rng((self._schedule.plan.seed, epoch, step, options.shard))
        taken = part.slots(len(members))
        points = None
        if options.grid_points is not None:
            n_grid = self._n_grid[sizes.rows[members[members >= 0]]]
            points = choose_points(n_grid, options.grid_points, whole.grid_points, rng)[taken]
        batch = gather(buffer, slots, shape, options.cutoff, points)
        if options.rotate:
            places = max(len(members), taken.stop)
            batch = rotate(batch, random_rotations(places, rng)[taken])
        return batch


def buffer_widths(reader: StoreReader, shapes: Sequence[BatchShape]) -> tuple[int, int]:
    """Returns the atoms and grid points that hold every molecule and every shape."""
    return (
        max([int(reader.n_atoms.max(initial=1)), *(shape.atoms for shape in shapes)]),
        max([int(reader.n_grid.max(initial=0)), *(shape.grid_points for shape in shapes)]),
    )
