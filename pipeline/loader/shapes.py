"""The array shapes of a run: at most eight, chosen from the sizes of the molecules.

XLA compiles once for each shape, so that a run has few of them, and every one
wastes the bytes between a molecule and the shape it is padded to. The shapes
are the partition of the molecules, in order of their size, that wastes least.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Final

import numpy as np
import pandas as pd
from jaxtyping import Bool, Int, Int64

from pipeline.loader.batch import BatchShape

MAX_SHAPES: Final = 8

# Compiling a step takes as long as hundreds of batches, spread over tens of epochs.
_BATCHES_PER_SHAPE: Final = 32

Sizes = Int[np.ndarray, "..."] | int | np.integer

# Bytes that an entry takes in a batch: element and mask of an atom (atomic
# number, position, monopole), of a grid point (ESP, position) and of a pair.
ATOM_BYTES: Final = 4 + 12 + 4 + 1
GRID_POINT_BYTES: Final = 4 + 12 + 1
PAIR_BYTES: Final = 4 + 4 + 1

# Sizes are rounded up to these, so that vectors are whole and the shapes of
# similar data agree; a compiled step is then found in XLA's cache.
_ATOM_MULTIPLE: Final = 2
_GRID_MULTIPLE: Final = 16
_PAIR_MULTIPLE: Final = 64
# Pairs of a batch are a sum over molecules; two standard deviations above its
# mean hold 98 %, and the rest is promoted to a larger shape.
_PAIR_DEVIATIONS: Final = 2.0
# Of the last shape before one that holds any batch: one batch in 30,000 needs that.
_LAST_PAIR_DEVIATIONS: Final = 4.0
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


def shapes_worth_compiling(sizes: MoleculeSizes, batch_size: int) -> int:
    """Returns how many shapes pay: few where an epoch has few batches to save bytes in."""
    batches = -(-len(sizes.rows) // batch_size)
    return int(np.clip(batches // _BATCHES_PER_SHAPE, 2, MAX_SHAPES))


def choose_shapes(
    sizes: MoleculeSizes, batch_size: int, max_shapes: int = MAX_SHAPES
) -> tuple[BatchShape, ...]:
    """Chooses the padded sizes that waste the fewest bytes on these molecules.

    Each shape is at least as large as the one before it in every size, and any
    batch of these molecules fits into the last.

    Args:
        sizes: Molecules; without any there is no shape.
        batch_size: B, molecules per batch.
        max_shapes: Shapes there may be.
    """
    if not len(sizes.rows):
        return ()
    groups = _group(sizes)
    most_pairs = int(_round_up(most_pairs_of_a_batch(sizes.n_pairs, batch_size), _PAIR_MULTIPLE))

    def ascend(ends: Sequence[int], any_batch: bool) -> tuple[float, list[BatchShape]]:
        """Makes the shape of each part; returns the bytes that an epoch takes in them, too."""
        shapes, largest, taken = [], BatchShape(batch_size, 1, 0, 1), 0.0
        for start, end in zip([0, *ends[:-1]], ends, strict=True):
            part, last = groups.part(start, end), end == len(groups.count)
            capacity = (
                most_pairs
                if last and any_batch
                else part.pair_capacity(
                    batch_size, _LAST_PAIR_DEVIATIONS if last else _PAIR_DEVIATIONS
                )
            )
            sides = (int(part.atoms.max()), int(part.points.max()), capacity)
            largest = BatchShape(batch_size, *map(max, largest[1:], sides))
            taken += int(part.count.sum()) / batch_size * shape_bytes(largest)
            shapes.append(largest)
        return taken, shapes

    # Either the last shape holds any batch, at the price of pairs that few need,
    # or one shape is set aside for the few.
    taken, shapes = ascend(_partition(groups, max_shapes), any_batch=True)
    if max_shapes > 1:
        taken_apart, apart = ascend(_partition(groups, max_shapes - 1), any_batch=False)
        if taken_apart < taken:
            shapes = [*apart, apart[-1]._replace(pairs=max(most_pairs, apart[-1].pairs))]
    return tuple(dict.fromkeys(shapes))


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

    def part(self, start: int, end: int) -> _Groups:
        """Returns some of the groups that follow each other."""
        return _Groups(*(getattr(self, field.name)[start:end] for field in fields(self)))

    def pair_capacity(self, batch_size: int, deviations: float) -> int:
        """Returns pairs that hold a batch unless it lies so far from the mean."""
        n, total, squares = (int(a.sum()) for a in (self.count, self.pairs, self.pairs_squared))
        # Whole numbers up to here, so that equal pairs deviate by nothing at all.
        deviation = math.sqrt(n * squares - total**2) / n
        likely = batch_size * (total / n) + deviations * deviation * batch_size**0.5
        most = batch_size * int(self.most_pairs.max())
        return int(_round_up(min(math.ceil(likely), most), _PAIR_MULTIPLE))


def _group(sizes: MoleculeSizes) -> _Groups:
    """Groups molecules by padded size, a part of them at a time, so that memory stays small."""
    parts = []
    for start in range(0, len(sizes.rows), _AT_ONCE):
        some = slice(start, start + _AT_ONCE)
        atoms = _round_up(sizes.n_atoms[some], _ATOM_MULTIPLE)
        points = _round_up(sizes.n_grid[some], _GRID_MULTIPLE)
        pairs = sizes.n_pairs[some].astype(np.int64)
        columns = {"atoms": atoms, "points": points, "count": 1, "pairs": pairs}
        parts.append(_summed(pd.DataFrame(columns | {"squared": pairs**2, "most": pairs})))
    table = _summed(pd.concat(parts))
    rows = table.assign(bytes=batch_bytes(table["atoms"].to_numpy(), table["points"].to_numpy(), 0))
    ordered = rows.sort_values("bytes", kind="stable").drop(columns="bytes")
    return _Groups(*ordered.to_numpy(np.int64).T)


def _summed(table: pd.DataFrame) -> pd.DataFrame:
    how = dict.fromkeys(("count", "pairs", "squared"), "sum") | {"most": "max"}
    return table.groupby(["atoms", "points"], as_index=False).agg(how)


def _partition(groups: _Groups, max_parts: int) -> list[int]:
    """Cuts ordered groups into parts padded to their largest, at the least bytes in all.

    Dynamic programming: the best cut of the first j sizes into k parts is the best of
    the first i into k - 1 and one part of the rest.

    Returns:
        End of each part, ascending; the last is the number of groups.
    """
    ends = _thinned(groups.count)
    starts = np.concatenate([[0], ends[:-1]])
    A = np.maximum.reduceat(groups.atoms, starts)
    G = np.maximum.reduceat(groups.points, starts)
    molecules = np.concatenate([[0], np.cumsum(groups.count)])
    n = len(ends)
    # cost[i, j]: bytes of the sizes i..j in one part.
    cost = np.full((n, n), np.inf)
    for i in range(n):
        widest = batch_bytes(np.maximum.accumulate(A[i:]), np.maximum.accumulate(G[i:]), 0)
        cost[i, i:] = widest * (molecules[ends[i:]] - molecules[starts[i]])
    best = cost[0]
    cuts: list[Int64[np.ndarray, " n"]] = []
    for _ in range(min(max_parts, n) - 1):
        candidates = np.concatenate([[np.inf], best[:-1]])[:, None] + cost
        cut = candidates.argmin(axis=0)
        split = candidates[cut, np.arange(n)]
        # Not cutting again is marked by 0: the part begins where all begins.
        cuts.append(np.where(split < best, cut, 0))
        best = np.minimum(best, split)
    chosen, j = [int(ends[-1])], n - 1
    for cut in reversed(cuts):
        if cut[j] > 0:
            j = int(cut[j]) - 1
            chosen.append(int(ends[j]))
    return chosen[::-1]


def _thinned(count: Int64[np.ndarray, " group"]) -> Int64[np.ndarray, " m"]:
    """Returns where groups end, thinned out evenly over the molecules where there are many."""
    ends = np.cumsum(count)
    if len(ends) <= _MAX_SIZES:
        return np.arange(1, len(ends) + 1)
    wanted = np.linspace(0, ends[-1], _MAX_SIZES + 1)[1:]
    return np.asarray(np.unique(np.minimum(np.searchsorted(ends, wanted), len(ends) - 1)) + 1)
