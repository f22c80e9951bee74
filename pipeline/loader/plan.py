"""Which molecules make each batch: a pure function of sizes, seed, epoch and shard.

An epoch shuffles blocks, the chunks of the store, and cuts their molecules into
windows that are read whole. Inside a window molecules of like size come
together in random order and are cut into batches, whose order is shuffled.
Every molecule comes exactly once; the molecules that fill no batch come last,
in a batch filled up with empty ones.

The processes of a run have disjoint parts of every epoch, the same number of
steps, and at each step the same shape, as computations across devices demand.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int64
from pydantic import BaseModel, ConfigDict

from pipeline.loader.batch import BatchShape
from pipeline.loader.shapes import MoleculeSizes, batch_bytes, shape_bytes, smallest_fitting


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
        n_molecules: Molecules an epoch, of all shards.
        batches_per_epoch: Steps an epoch, the same on each shard.
        shapes: Padded sizes in ascending order.
        shape_shares: Share of the steps that has each.
        padding_waste: Share of the bytes of the batches (atoms, grid points and pairs
            with their masks) that is padding.
        windows_per_epoch: Windows an epoch of each shard.
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
        batch_size: B, molecules a batch.
        block_size: Molecules a chunk of the store.
        window_steps: Batches a window has at most.
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
        """Molecules an epoch, of all shards."""
        return len(self.sizes.rows)

    @property
    def steps(self) -> int:
        """Batches an epoch of each shard."""
        per_shard = -(-self.n_molecules // self.n_shards)
        return -(-per_shard // self.batch_size)

    @property
    def n_windows(self) -> int:
        """Windows an epoch of each shard."""
        return -(-self.steps // self.window_steps)

    def epoch(self, epoch: int) -> EpochPlan:
        """Plans the batches of one epoch; the same for the same epoch always."""
        rng = np.random.default_rng((self.seed, epoch))
        window = np.sort(np.arange(self.steps) % self.n_windows) if self.steps else np.arange(0)
        slots = self._deal(self._block_order(rng))
        slots = self._bucket(slots, window, rng)
        members = slots.reshape(self.n_shards, self.steps, self.batch_size).transpose(1, 0, 2)
        members = members[self._step_order(window, rng)] if self.steps else members
        # Empty places are sorted to the front of a batch; they belong behind.
        members = np.ascontiguousarray(members[:, :, ::-1])
        return EpochPlan(members, self._fit(members), window)

    def report(self, epoch: int = 0) -> PlanReport:
        """Measures one epoch of the plan."""
        plan = self.epoch(epoch)
        steps_of_shape = np.bincount(plan.shape_index, minlength=len(self.shapes))
        padded = sum(
            int(count) * shape_bytes(shape)
            for count, shape in zip(steps_of_shape, self.shapes, strict=True)
        )
        sizes = self.sizes
        filled = int(batch_bytes(sizes.n_atoms, sizes.n_grid, sizes.n_pairs).sum())
        displacement, separation = _shuffle_distance(plan)
        return PlanReport(
            n_molecules=self.n_molecules,
            batches_per_epoch=self.steps,
            shapes=tuple(self.shapes),
            shape_shares=tuple(steps_of_shape / max(1, self.steps)),
            padding_waste=1.0 - filled / (padded * self.n_shards) if padded else 0.0,
            windows_per_epoch=self.n_windows,
            shuffle_displacement=displacement,
            shuffle_separation=separation,
        )

    def _block_order(self, rng: np.random.Generator) -> Int64[np.ndarray, " n"]:
        """Orders the molecules by shuffled blocks."""
        if not self.shuffle:
            return np.arange(self.n_molecules)
        blocks, block = np.unique(self.sizes.rows // self.block_size, return_inverse=True)
        return np.argsort(rng.permutation(len(blocks))[block], kind="stable")

    def _deal(self, order: Int64[np.ndarray, " n"]) -> Int64[np.ndarray, "shard slot"]:
        """Gives each shard one stretch of the order; stretches differ by one molecule at most."""
        slots = np.full((self.n_shards, self.steps * self.batch_size), -1, np.int64)
        for shard, stretch in enumerate(np.array_split(order, self.n_shards)):
            # Whatever is left empty is so in the last window.
            slots[shard, : len(stretch)] = stretch
        return slots

    def _bucket(
        self,
        slots: Int64[np.ndarray, "shard slot"],
        window: Int64[np.ndarray, " step"],
        rng: np.random.Generator,
    ) -> Int64[np.ndarray, "shard slot"]:
        """Brings molecules of like size together inside each window, empty places first."""
        sizes = self.sizes
        # Pairs are those of a batch, not of a molecule: they decide no bucket.
        bucket = smallest_fitting(
            self.shapes, sizes.n_atoms, sizes.n_grid, np.zeros_like(sizes.n_pairs)
        )
        key = np.where(slots < 0, -1, bucket[slots] if len(bucket) else -1)
        chance = rng.random(slots.shape) if self.shuffle else np.zeros(slots.shape)
        windows = np.broadcast_to(np.repeat(window, self.batch_size), slots.shape)
        order = np.lexsort((chance, key, windows), axis=1)
        return np.take_along_axis(slots, order, axis=1)

    def _step_order(
        self, window: Int64[np.ndarray, " step"], rng: np.random.Generator
    ) -> Int64[np.ndarray, " step"]:
        """Shuffles the steps of each window; the one with empty places goes last."""
        chance = rng.random(len(window)) if self.shuffle else np.arange(len(window), dtype=float)
        partly_empty = int(np.searchsorted(window, window[-1]))
        chance[partly_empty] = np.inf
        return np.lexsort((chance, window))

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


def _shuffle_distance(plan: EpochPlan) -> tuple[float, float]:
    """Returns displacement and separation as `PlanReport` defines them.

    Two random places of n are n/3 apart on average.
    """
    order = plan.members.reshape(-1)
    order = order[order >= 0]
    n = len(order)
    if n < 2:
        return 0.0, 0.0
    place = np.empty(n)
    place[order] = np.arange(n)
    displacement = np.abs(place - np.arange(n)).mean()
    return float(displacement / (n / 3)), float(np.abs(np.diff(place)).mean() / (n / 3))
