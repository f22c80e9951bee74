"""Which molecules make each batch: a pure function of sizes, seed, epoch and shard.

An epoch shuffles blocks, the chunks of the store, and cuts their molecules into
windows that are read whole. Inside a window molecules of like size come
together and are cut into batches, whose order is shuffled. Batches of a shape
are a stratified sample of its molecules by their pairs, so that they have
nearly the same number and need little room to spare. Every molecule comes
exactly once; the molecules that fill no batch come last, in a batch filled up
with empty ones.

The processes of a run have disjoint parts of every epoch, the same number of
steps, and at each step the same shape, as computations across devices demand.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
from jaxtyping import Float, Int, Int64
from pydantic import BaseModel, ConfigDict

from pipeline.loader.batch import BatchShape
from pipeline.loader.order import Blocks, EpochOrder
from pipeline.loader.shapes import MoleculeSizes, batch_bytes, shape_bytes, smallest_fitting

# Molecules worked on at once where a pass goes over all.
_AT_ONCE: Final = 2**20
_GOLDEN_RATIO: Final = (5**0.5 - 1) / 2


@dataclass(frozen=True)
class WindowPlan:
    """The batches of one window, of all shards.

    Attributes:
        first_step: Step of the epoch that the window begins with.
        members: As in `EpochPlan`, of the steps of the window.
        shape_index: Likewise.
    """

    first_step: int
    members: Int64[np.ndarray, "step shard B"]
    shape_index: Int64[np.ndarray, " step"]


@dataclass(frozen=True)
class EpochPlan:
    """The batches of one epoch, of all shards.

    Attributes:
        members: Molecules of each step and shard as indices into the planned molecules;
            -1 for an empty one, after all others.
        shape_index: Shape of each step.
        window: Window of each step, ascending.
    """

    members: Int64[np.ndarray, "step shard B"]
    shape_index: Int64[np.ndarray, " step"]
    window: Int64[np.ndarray, " step"]


class PlanReport(BaseModel):
    """What a plan amounts to.

    Attributes:
        n_molecules: Molecules per epoch, of all shards.
        batches_per_epoch: Steps per epoch, the same on each shard.
        shapes: Padded sizes in ascending order.
        shape_shares: Share of the steps that has each.
        padding_waste: Share of the bytes of the batches (atoms, grid points and pairs
            with their masks) that is padding.
        windows_per_epoch: Windows per epoch of each shard.
        shuffle_displacement: How far molecules move from their place in the store, 1 for a
            full shuffle and 0 for none: the mean distance, over that of random places.
        shuffle_separation: How far neighbours in the store come apart in the epoch,
            likewise; about the share of the epoch that a window is.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    n_molecules: int
    batches_per_epoch: int
    shapes: tuple[BatchShape, ...]
    shape_shares: tuple[float, ...]
    padding_waste: float
    windows_per_epoch: int
    shuffle_displacement: float
    shuffle_separation: float


@dataclass(frozen=True)
class LoaderPlan:
    """Plans every epoch of a run.

    Attributes:
        sizes: The molecules of the run.
        shapes: Padded sizes in ascending order; every batch fits into the last.
        batch_size: B, molecules per batch.
        block_size: Molecules a chunk of the store.
        window_steps: Batches that a window has at most.
        n_shards: Processes that share an epoch.
        shuffle: False keeps the order of the store between windows.
        seed: Seed of the order.
    """

    sizes: MoleculeSizes
    shapes: Sequence[BatchShape]
    batch_size: int
    block_size: int
    window_steps: int
    n_shards: int = 1
    shuffle: bool = True
    seed: int = 0

    @property
    def n_molecules(self) -> int:
        """Molecules per epoch, of all shards."""
        return len(self.sizes.rows)

    @property
    def steps(self) -> int:
        """Batches per epoch of each shard."""
        per_shard = -(-self.n_molecules // self.n_shards)
        return -(-per_shard // self.batch_size)

    @property
    def n_windows(self) -> int:
        """Windows per epoch of each shard."""
        return -(-self.steps // self.window_steps)

    @cached_property
    def fingerprint(self) -> str:
        """Names the plan: two that agree make the same batches."""
        digest = hashlib.sha256()
        for array in (self.sizes.rows, self.sizes.n_atoms, self.sizes.n_grid, self.sizes.n_pairs):
            for start in range(0, len(array), _AT_ONCE):
                digest.update(array[start : start + _AT_ONCE].astype(np.int64).tobytes())
        rest = (self.shapes, self.batch_size, self.block_size, self.window_steps)
        digest.update(repr((*rest, self.n_shards, self.shuffle, self.seed)).encode())
        return digest.hexdigest()[:16]

    @cached_property
    def _blocks(self) -> Blocks:
        return Blocks.of(self.sizes.rows, self.block_size)

    def order(self, epoch: int) -> EpochOrder:
        """Returns the order of an epoch, which its windows are planned from."""
        return EpochOrder(self._blocks, (self.seed, epoch), self.shuffle)

    def first_step(self, window: int) -> int:
        """Returns the first step of a window; the first windows have one more than the last."""
        each, more = divmod(self.steps, max(1, self.n_windows))
        return window * each + min(window, more)

    def window_of(self, step: int) -> int:
        """Returns the window of a step."""
        each, more = divmod(self.steps, self.n_windows)
        longer = more * (each + 1)
        return step // (each + 1) if step < longer else more + (step - longer) // each

    def window(self, order: EpochOrder, window: int) -> WindowPlan:
        """Plans the batches of one window; the same for the same epoch always."""
        first, stop = self.first_step(window), self.first_step(window + 1)
        slots = np.stack(
            [
                self._bucketed(self._dealt(order, shard, first, stop), order, shard, first)
                for shard in range(self.n_shards)
            ]
        )
        members = slots.reshape(self.n_shards, stop - first, self.batch_size).transpose(1, 0, 2)
        members = members[self._step_order(order, window, first, stop)]
        # Empty places are sorted to the front of a batch; they belong behind.
        members = np.ascontiguousarray(members[:, :, ::-1])
        return WindowPlan(first, members, self._fit(members))

    def windows(self, epoch: int) -> Iterator[WindowPlan]:
        """Plans one window of an epoch after the other."""
        order = self.order(epoch)
        for window in range(self.n_windows):
            yield self.window(order, window)

    def epoch(self, epoch: int) -> EpochPlan:
        """Plans all batches of an epoch at once."""
        windows = list(self.windows(epoch))
        empty = np.zeros((0, self.n_shards, self.batch_size), np.int64)
        return EpochPlan(
            members=np.concatenate([empty, *(w.members for w in windows)]),
            shape_index=np.concatenate([empty[:, 0, 0], *(w.shape_index for w in windows)]),
            window=np.repeat(np.arange(len(windows)), [len(w.members) for w in windows]),
        )

    def report(self, epoch: int = 0) -> PlanReport:
        """Measures one epoch of the plan."""
        steps_of_shape = np.zeros(len(self.shapes), np.int64)
        place = np.empty(self.n_molecules, self.sizes.rows.dtype)
        moved, seen = 0, 0
        for window in self.windows(epoch):
            steps_of_shape += np.bincount(window.shape_index, minlength=len(self.shapes))
            members = window.members[window.members >= 0]
            places = np.arange(seen, seen + len(members))
            place[members] = places
            moved += int(np.abs(places - members).sum())
            seen += len(members)
        padded = sum(
            int(count) * shape_bytes(shape)
            for count, shape in zip(steps_of_shape, self.shapes, strict=True)
        )
        sizes = self.sizes
        filled = int(
            batch_bytes(*(int(np.sum(n)) for n in (sizes.n_atoms, sizes.n_grid, sizes.n_pairs)))
        )
        apart = sum(
            int(np.abs(np.diff(place[start : start + _AT_ONCE + 1])).sum(dtype=np.int64))
            for start in range(0, seen, _AT_ONCE)
        )
        # Two random places of n are n/3 apart on average.
        random = max(1, seen) / 3
        return PlanReport(
            n_molecules=self.n_molecules,
            batches_per_epoch=self.steps,
            shapes=tuple(self.shapes),
            shape_shares=tuple(steps_of_shape / max(1, self.steps)),
            padding_waste=1.0 - filled / (padded * self.n_shards) if padded else 0.0,
            windows_per_epoch=self.n_windows,
            shuffle_displacement=moved / max(1, seen) / random,
            shuffle_separation=apart / max(1, seen - 1) / random,
        )

    def _dealt(
        self, order: EpochOrder, shard: int, first: int, stop: int
    ) -> Int64[np.ndarray, " slot"]:
        """Returns the molecules of a shard's steps, -1 for a place that stays empty.

        Each shard has one stretch of the order; stretches differ by one molecule at most.
        """
        each, more = divmod(self.n_molecules, self.n_shards)
        begin = shard * each + min(shard, more)
        end = begin + each + (shard < more)
        slots = np.full((stop - first) * self.batch_size, -1, np.int64)
        # Whatever is left empty is so in the last window.
        here = begin + first * self.batch_size
        there = order.stretch(min(here, end), min(here + len(slots), end))
        slots[: len(there)] = there
        return slots

    def _bucketed(
        self, slots: Int64[np.ndarray, " slot"], order: EpochOrder, shard: int, first: int
    ) -> Int64[np.ndarray, " slot"]:
        """Brings molecules of like size together, empty places first."""
        empty = slots < 0
        atoms, points = self.sizes.n_atoms[slots], self.sizes.n_grid[slots]
        # Pairs are those of a batch, not of a molecule: they decide no bucket.
        bucket = smallest_fitting(self.shapes, atoms, points, np.zeros_like(atoms))
        bucket = np.where(empty, -1, bucket)
        chance = order.chance((shard * self.steps + first) * self.batch_size, len(slots))
        by_size = np.lexsort((chance, bucket))
        # A batch is padded to the bucket of its largest molecule.
        of_batch = bucket[by_size].reshape(-1, self.batch_size)[:, -1]
        pairs = np.where(empty, -1, self.sizes.n_pairs[slots])
        return slots[by_size[_stratified(of_batch, pairs[by_size], chance[by_size])]]

    def _step_order(
        self, order: EpochOrder, window: int, first: int, stop: int
    ) -> Int64[np.ndarray, " step"]:
        """Shuffles the steps of a window; the one with empty places goes last."""
        slots = self.n_shards * self.steps * self.batch_size
        chance = order.chance(slots + first, stop - first)
        if window == self.n_windows - 1:
            chance[0] = np.inf
        return np.argsort(chance, kind="stable")

    def _fit(self, members: Int64[np.ndarray, "step shard B"]) -> Int64[np.ndarray, " step"]:
        """Returns the shape of each step, which holds the batches of all its shards."""
        empty = members < 0
        atoms, points, pairs = (
            np.where(empty, 0, size[members] if len(size) else 0)
            for size in (self.sizes.n_atoms, self.sizes.n_grid, self.sizes.n_pairs)
        )
        return smallest_fitting(
            self.shapes,
            atoms.max(axis=(1, 2), initial=0),
            points.max(axis=(1, 2), initial=0),
            pairs.sum(axis=2).max(axis=1, initial=0),
        )


def _stratified(
    buckets: Int[np.ndarray, " batch"],
    pairs: Int[np.ndarray, " slot"],
    chance: Float[np.ndarray, " slot"],
) -> Int64[np.ndarray, " slot"]:
    """Deals molecules to batches so that each has its share of those with few and many pairs.

    The molecules of m batches are sorted by their pairs and cut into strata of m; each batch
    gets one of every stratum. A batch with empty places gets its share first.

    Args:
        buckets: Bucket of each batch, ascending; those of one share their molecules.
        pairs: Pairs of the molecule at each place, -1 for an empty one.
        chance: Decides which molecule of a stratum a batch gets.

    Returns:
        Which place the molecule at each place comes from.
    """
    B = len(pairs) // max(1, len(buckets))
    dealt = np.arange(len(pairs)).reshape(-1, B)
    for bucket in np.unique(buckets):
        batches = np.flatnonzero(buckets == bucket)
        members = dealt[batches].ravel()
        members = members[np.lexsort((chance[members], pairs[members]))]
        n_empty = np.count_nonzero(pairs[members] < 0)
        if n_empty:
            empty, members = np.split(members, [n_empty])
            share = np.linspace(0, len(members), B - n_empty, endpoint=False, dtype=np.int64)
            share += int(chance[empty[0]] * len(members) / max(1, len(share)))
            dealt[batches[0]] = np.concatenate([empty, members[share][_spread(len(share))]])
            members, batches = np.delete(members, share), batches[1:]
        strata = members.reshape(B, -1)
        by_chance = np.argsort(chance[strata], axis=1, kind="stable")
        dealt[batches] = np.take_along_axis(strata, by_chance, axis=1)[_spread(B)].T
    return dealt.ravel()


def _spread(n: int) -> Int64[np.ndarray, " n"]:
    """Returns an order of n things in which any stretch is spread evenly over all.

    That of the golden ratio's multiples, less their whole parts. So devices that take a
    stretch of a batch each have equal shares, too.
    """
    return np.argsort(np.argsort(np.arange(n) * _GOLDEN_RATIO % 1.0))
