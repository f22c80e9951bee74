"""The array shapes of a run: at most eight, chosen from the sizes of the molecules.

XLA compiles once for each shape, so that a run has few of them, and every one
wastes the bytes between a molecule and the shape it is padded to. The shapes
are the partition of the molecules, in order of their size, that wastes least.
There are as few as leave little padding, and more where what they save in all
passes over the molecules pays for compiling them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Final

import numpy as np
from jaxtyping import Bool, Float, Int, Int64

from pipeline.loader.batch import BatchShape

MAX_SHAPES: Final = 8

# Share of atoms and grid points, in bytes, that may be padding where more shapes would save
# less time than compiling them takes.
_LITTLE_PADDING: Final = 0.12
# What a step takes per atom and grid point, and what compiling it takes, in the time of a pair:
# fitted to steps of 16, 32 and 64 features on two cores, where they are 1 to 3 microseconds,
# and rounded. A pass that only predicts takes a third of each, and so do its compilations.
_ATOM_WORK: Final = 15.0
_GRID_POINT_WORK: Final = 0.1
_COMPILING_WORK: Final = 5e6

Sizes = Int[np.ndarray, "..."] | int | np.integer

# Bytes that an entry takes in a batch: element and mask of an atom (atomic
# number, position, monopole), of a grid point (ESP, position) and of a pair.
ATOM_BYTES: Final = 4 + 12 + 4 + 1
GRID_POINT_BYTES: Final = 4 + 12 + 1
PAIR_BYTES: Final = 4 + 4 + 1

# Sizes are rounded up to these, so that vectors are whole and the shapes of
# similar data agree; a compiled step is then found in XLA's cache. Pairs, whose number is
# estimated, are rounded up to one of sixteen sizes to each doubling where those are further apart.
_ATOM_MULTIPLE: Final = 2
_GRID_MULTIPLE: Final = 16
_PAIR_MULTIPLE: Final = 64
_PAIR_SIZES_PER_DOUBLING: Final = 16
# Sizes to each doubling where shapes are to agree more often.
_RUNGS: Final = 4
# Batches of a window deviate together from the mean of all by what their number leaves of
# chance; one window in 700 has more pairs than this allows for and takes a larger shape.
_PAIR_DEVIATIONS: Final = 3.0
_BATCHES_PER_WINDOW: Final = 16
# Distinct sizes that the partition is chosen over; its cost is quadratic in them.
_MAX_SIZES: Final = 512
# Molecules that are grouped by size at once.
_AT_ONCE: Final = 2**20


@dataclass(frozen=True)
class MoleculeSizes:
    """Sizes of molecules, which is all that planning needs to know of them.

    Sixteen bytes per molecule with integers of 32 bits, which hold any store so far.

    Attributes:
        rows: Rows of the molecules in the store, ascending.
        n_atoms: Atoms of each.
        n_grid: Grid points of each; 0 where a loader carries no grid.
        n_pairs: Pairs within the cutoff of each.
    """

    rows: Int[np.ndarray, " n"]
    n_atoms: Int[np.ndarray, " n"]
    n_grid: Int[np.ndarray, " n"]
    n_pairs: Int[np.ndarray, " n"]

    def select(self, chosen: Bool[np.ndarray, " n"] | Int[np.ndarray, " m"]) -> MoleculeSizes:
        """Returns the sizes of some of the molecules."""
        return MoleculeSizes(
            self.rows[chosen], self.n_atoms[chosen], self.n_grid[chosen], self.n_pairs[chosen]
        )


def batch_bytes(atoms: Sizes, grid_points: Sizes, pairs: Sizes) -> Int64[np.ndarray, "..."]:
    """Returns the bytes that atoms, grid points and pairs take in a batch."""
    return np.asarray(
        ATOM_BYTES * np.asarray(atoms, np.int64)
        + GRID_POINT_BYTES * np.asarray(grid_points, np.int64)
        + PAIR_BYTES * np.asarray(pairs, np.int64)
    )


def equal_batches(n_molecules: int, batch_size: int) -> int:
    """Returns the size that makes batches equal: no more batches, and none nearly empty."""
    batches = max(1, -(-n_molecules // batch_size))
    return max(1, -(-n_molecules // batches))


def choose_shapes(
    sizes: MoleculeSizes, batch_size: int, max_shapes: int = MAX_SHAPES, passes: int = 1
) -> tuple[BatchShape, ...]:
    """Chooses the padded sizes that waste the fewest bytes on batches of these molecules.

    Each shape is at least as large as the one before it in every size, and any
    batch of these molecules fits into the last.

    Args:
        sizes: Molecules; without any there is no shape.
        batch_size: B, molecules per batch.
        max_shapes: Shapes there may be. There are fewer where more would save little.
        passes: How often the molecules are gone through in all.
    """
    if not len(sizes.rows):
        return ()
    groups = _group(sizes)
    most_pairs = _round_up_pairs(most_pairs_of_a_batch(sizes.n_pairs, batch_size))
    ends = _partition(groups, batch_size, max(1, max_shapes - 1), passes)
    sides = [
        BatchShape(batch_size, int(groups.atoms[:end].max()), int(groups.points[:end].max()), 0)
        for end in ends
    ]
    buckets = smallest_fitting(sides, groups.atoms, groups.points, np.zeros_like(groups.atoms))
    groups = groups.select(np.argsort(buckets, kind="stable"))
    shapes, pairs, smaller, start = [], 1, groups.select(slice(0, 0)), 0
    ends_of_buckets = np.cumsum(np.bincount(buckets, minlength=len(sides)))
    batches = groups.batches(batch_size)
    for side, end in zip(sides, ends_of_buckets, strict=True):
        bucket = groups.select(slice(start, int(end)))
        in_window = min(int(batches[end] - batches[start]), _BATCHES_PER_WINDOW)
        likely = bucket.likely_pairs(batch_size, in_window, smaller)
        pairs = max(pairs, _round_up_pairs(likely))
        shapes.append(side._replace(pairs=pairs))
        smaller, start = bucket, int(end)
    largest = shapes[-1]
    # The shape that holds any batch is set apart for the few that need it.
    any_batch = largest._replace(pairs=max(most_pairs, largest.pairs))
    shapes = [*shapes, any_batch] if max_shapes > 1 else [any_batch]
    return tuple(dict.fromkeys(shapes))


def likely_elsewhere(shapes: Sequence[BatchShape], batch_size: int) -> tuple[BatchShape, ...]:
    """Returns shapes, up to a quarter larger, that the batches of similar data have as well.

    What was compiled for those then serves these. Each size is one of four to a doubling.

    Args:
        shapes: Shapes of batches.
        batch_size: Most molecules of a batch.
    """
    found = []
    for shape in shapes:
        B = min(_on_rung(shape.molecules), max(batch_size, shape.molecules))
        pairs = -(-shape.pairs * B // shape.molecules)
        found.append(BatchShape(B, *map(_on_rung, (shape.atoms, shape.grid_points, pairs))))
    return tuple(dict.fromkeys(found))


def shape_bytes(shape: BatchShape) -> int:
    """Returns the bytes that the atoms, grid points and pairs of a shape take."""
    B = shape.molecules
    return int(batch_bytes(B * shape.atoms, B * shape.grid_points, shape.pairs))


def smallest_fitting(
    shapes: Sequence[BatchShape],
    atoms: Int[np.ndarray, " n"],
    grid_points: Int[np.ndarray, " n"],
    pairs: Int[np.ndarray, " n"],
) -> Int64[np.ndarray, " n"]:
    """Returns for each molecule or batch the first shape that holds it.

    Args:
        shapes: Shapes in ascending order.
        atoms: Atoms of each, or of its largest molecule.
        grid_points: Grid points, likewise.
        pairs: Pairs of all its molecules.

    Returns:
        Index of the shape; `len(shapes)` where none fits.
    """
    wanted = zip((atoms, grid_points, pairs), np.array(shapes).T[1:], strict=True)
    # The sizes ascend with the shapes, so that the first shape is a search a size.
    first = [np.searchsorted(capacity, sizes, side="left") for sizes, capacity in wanted]
    return np.max(first, axis=0)


def _round_up(sizes: Sizes, multiple: int) -> Int64[np.ndarray, "..."]:
    return np.asarray(-(-np.asarray(sizes, np.int64) // multiple) * multiple)


def _round_up_pairs(pairs: int) -> int:
    step = 2 ** max(0, pairs.bit_length() - 1) // _PAIR_SIZES_PER_DOUBLING
    return int(_round_up(pairs, max(_PAIR_MULTIPLE, step)))


def _on_rung(size: int) -> int:
    return int(_round_up(size, max(1, 2 ** max(0, size.bit_length() - 1) // _RUNGS)))


def most_pairs_of_a_batch(n_pairs: Int[np.ndarray, " n"], batch_size: int) -> int:
    """Returns the pairs of the batch that has the most."""
    first = max(0, len(n_pairs) - batch_size)
    return int(np.partition(n_pairs, first)[first:].sum()) if len(n_pairs) else 0


@dataclass(frozen=True)
class _Groups:
    """Molecules of the same padded size, in the order of its bytes.

    Attributes:
        atoms: Atoms, rounded up.
        points: Grid points, rounded up.
        count: Molecules of each group.
        pairs: Sum of their pairs.
        pairs_squared: Sum of the squares.
        most_pairs: The most of one.
    """

    atoms: Int64[np.ndarray, " group"]
    points: Int64[np.ndarray, " group"]
    count: Int64[np.ndarray, " group"]
    pairs: Int64[np.ndarray, " group"]
    pairs_squared: Int64[np.ndarray, " group"]
    most_pairs: Int64[np.ndarray, " group"]

    def batches(self, batch_size: int) -> Int64[np.ndarray, " ends"]:
        """Returns how many batches lie before each group, and after the last.

        Batches are cut from the molecules in the order of their groups, the first filled up
        with empty places. A batch lies in the group of its last molecule.
        """
        molecules = np.concatenate([[0], np.cumsum(self.count)])
        return np.asarray((molecules + -molecules[-1] % batch_size) // batch_size)

    def select(self, chosen: slice | Int64[np.ndarray, " n"]) -> _Groups:
        """Returns some of the groups."""
        return _Groups(*(getattr(self, field.name)[chosen] for field in fields(self)))

    def likely_pairs(self, n_molecules: int, batches: int, smaller: _Groups) -> int:
        """Returns pairs that a batch of these molecules hardly ever exceeds.

        Args:
            n_molecules: Molecules of a batch.
            batches: Batches that share molecules so that each has about as many pairs.
            smaller: Molecules that fill up a batch, where these are too few.
        """
        n, total, squares = (int(a.sum()) for a in (self.count, self.pairs, self.pairs_squared))
        if n < n_molecules:
            left = n_molecules - n
            # Where those are too few as well, the rest is smaller still, and counted as they are.
            return total + (smaller.likely_pairs(left, 1, smaller) if smaller.count.sum() else 0)
        # Molecules come once each: where the batches are all there are, nothing is left to
        # chance. Whole numbers up to here, so that equal pairs deviate by nothing at all.
        drawn = n_molecules * max(1, batches)
        left_out = max(0, n - drawn) / max(1, n - 1)
        deviation = math.sqrt((n * squares - total**2) * left_out * drawn) / n / max(1, batches)
        # Of strata that follow each other, batches differ by less than one molecule does.
        most = int(self.most_pairs.max())
        likely = n_molecules * total / n + _PAIR_DEVIATIONS * deviation + most - total / n
        return min(math.ceil(likely), n_molecules * most)


def _group(sizes: MoleculeSizes) -> _Groups:
    """Groups molecules by padded size, a part of them at a time, so that memory stays small."""
    parts = []
    for start in range(0, len(sizes.rows), _AT_ONCE):
        some = slice(start, start + _AT_ONCE)
        pairs = sizes.n_pairs[some].astype(np.int64)
        groups = _Groups(
            atoms=_round_up(sizes.n_atoms[some], _ATOM_MULTIPLE),
            points=_round_up(sizes.n_grid[some], _GRID_MULTIPLE),
            count=np.ones_like(pairs),
            pairs=pairs,
            pairs_squared=pairs**2,
            most_pairs=pairs,
        )
        parts.append(_merged(groups))
    every = (np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(_Groups))
    merged = _merged(_Groups(*every))
    return merged.select(np.argsort(batch_bytes(merged.atoms, merged.points, 0), kind="stable"))


def _merged(groups: _Groups) -> _Groups:
    """Makes one group of those of the same size."""
    stride = int(groups.points.max(initial=0)) + 1
    keys, place = np.unique(groups.atoms * stride + groups.points, return_inverse=True)
    count, pairs, squared, most = np.zeros((4, keys.size), np.int64)
    np.add.at(count, place, groups.count)
    np.add.at(pairs, place, groups.pairs)
    np.add.at(squared, place, groups.pairs_squared)
    np.maximum.at(most, place, groups.most_pairs)
    return _Groups(keys // stride, keys % stride, count, pairs, squared, most)


def _partition(groups: _Groups, batch_size: int, max_parts: int, passes: int) -> list[int]:
    """Cuts ordered groups into parts padded to their largest.

    Of the cuts that leave little padding, the one whose batches and compilations take least
    time; where none does, the one into the most parts.

    Returns:
        End of each part that batches lie in, ascending; the last is the number of groups.
    """
    ends = _thinned(groups.count)
    starts = np.concatenate([[0], ends[:-1]])
    A = np.maximum.reduceat(groups.atoms, starts)
    G = np.maximum.reduceat(groups.points, starts)
    batches = groups.batches(batch_size)[np.concatenate([[0], ends])]
    # cost[i, j]: bytes of the sizes i..j in one part, per molecule of a batch.
    cost = np.full((len(ends), len(ends)), np.inf)
    for i in range(len(ends)):
        widest = batch_bytes(np.maximum.accumulate(A[i:]), np.maximum.accumulate(G[i:]), 0)
        cost[i, i:] = widest * (batches[i + 1 :] - batches[i])
    partitions = _cheapest_partitions(cost, max_parts)
    counts = [np.diff(batches[np.concatenate([[0], last + 1])]) for last in partitions]
    padded, work = np.empty(len(partitions)), np.empty(len(partitions))
    for k, (last, count) in enumerate(zip(partitions, counts, strict=True)):
        first = np.concatenate([[0], last[:-1] + 1])
        atoms, points = np.maximum.reduceat(A, first), np.maximum.reduceat(G, first)
        padded[k] = batch_size * batch_bytes(atoms, points, 0) @ count
        of_batch = batch_size * (_ATOM_WORK * atoms + _GRID_POINT_WORK * points)
        work[k] = passes * of_batch @ count + _COMPILING_WORK * np.count_nonzero(count)
    filled = batch_bytes(groups.atoms, groups.points, 0) @ groups.count
    allowed = filled >= (1 - _LITTLE_PADDING) * padded
    allowed[-1] = True
    k = int(np.where(allowed, work, np.inf).argmin())
    return [int(end) for end, count in zip(ends[partitions[k]], counts[k], strict=True) if count]


def _cheapest_partitions(
    cost: Float[np.ndarray, "n n"], most: int
) -> list[Int64[np.ndarray, " parts"]]:
    """Returns the cheapest partition of n sizes in order into one part, two, and so on.

    Dynamic programming: the best cut of the first j sizes into k parts is the best of
    the first i into k - 1 and one part of the rest.

    Args:
        cost: Cost of the sizes i to j as a part, at ``[i, j]``; infinite below the diagonal.
        most: Parts there may be.

    Returns:
        Index of the last size of each part, ascending; fewer parts where another saves nothing.
    """
    n, best = len(cost), cost[0]
    cuts: list[Int64[np.ndarray, " n"]] = []
    partitions = [np.array([n - 1])]
    while len(partitions) < min(most, n):
        candidates = np.concatenate([[np.inf], best[:-1]])[:, None] + cost
        cut = candidates.argmin(axis=0)
        split = candidates[cut, np.arange(n)]
        # Not cutting again is marked by 0: the part begins where all begins.
        cuts.append(np.where(split < best, cut, 0))
        best = np.minimum(best, split)
        last = [n - 1]
        for earlier in reversed(cuts):
            if earlier[last[0]] > 0:
                last.insert(0, int(earlier[last[0]]) - 1)
        partitions.append(np.array(last))
    return partitions


def _thinned(count: Int64[np.ndarray, " group"]) -> Int64[np.ndarray, " m"]:
    """Returns where groups end, thinned out evenly over the molecules where there are many."""
    ends = np.cumsum(count)
    if len(ends) <= _MAX_SIZES:
        return np.arange(1, len(ends) + 1)
    wanted = np.linspace(0, ends[-1], _MAX_SIZES + 1)[1:]
    return np.asarray(np.unique(np.minimum(np.searchsorted(ends, wanted), len(ends) - 1)) + 1)
