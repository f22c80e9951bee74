"""Sums and histograms of errors by group: memory does not grow with what is added.

Sums are float64. Percentiles are read off a histogram with 64 bins an octave, within
1.6 % of the exact ones.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from dcmnet.analysis.point_errors import add_error, correlation
from dcmnet.analysis.statistics import Errors, Spread
from pipeline.compiled import compiled

_BINS_PER_OCTAVE = 64
_OCTAVES = (-20, 14)  # smaller errors count as the smallest, larger ones as the largest
_BINS = _BINS_PER_OCTAVE * (_OCTAVES[1] - _OCTAVES[0])
# The bits of a float32 but those behind the mantissa's sixth are the number of its bin.
_BITS = 23 - 6
_FIRST_BIN = int(np.float32(2.0 ** _OCTAVES[0]).view(np.int32)) >> _BITS
_PERCENTILES = (50, 90, 95, 99)


class _Totals(NamedTuple):
    sums: Float[np.ndarray, "row level 8"]
    largest: Float[np.ndarray, "row level"]
    counts: Int[np.ndarray, "row level bin"]


class ErrorSums:
    """Errors of predictions, by group and level: sums, the largest, and a histogram.

    There may be many groups; memory is taken for those that something was added to.
    """

    def __init__(self, n_groups: int, n_levels: int = 1) -> None:
        self._row, self._n_rows = np.full(n_groups, -1), 0
        self._totals = _Totals(
            np.zeros((0, n_levels, 8)),
            np.zeros((0, n_levels), np.float32),
            np.zeros((0, n_levels, _BINS), np.uint32),
        )

    def add(
        self,
        first: Int[np.ndarray, " B"],
        place: Int[np.ndarray, "B N"],
        predicted: Float[np.ndarray, "level B N"],
        reference: Float[np.ndarray, "B N"],
        known: Bool[np.ndarray, "level B"],
    ) -> Float[np.ndarray, "8 level B"]:
        """Adds the values of molecules, each to its group.

        Args:
            first: Group that a molecule's places count from.
            place: Place of each value behind it; what has a negative one does not count.
            predicted: Values of each level; errors are taken in their precision.
            reference: What they should be.
            known: True where a level says something of the molecule.

        Returns:
            The sums of each molecule alone, as in ``point_errors.Sums``.
        """
        self._n_rows = _find_rows(self._row, first, place, self._n_rows)
        have = len(self._totals.sums)
        if self._n_rows > have:  # twice as many each time, so that few are ever copied
            new = max(self._n_rows, 2 * have) - have
            self._totals = _Totals(
                *(np.pad(a, [(0, new)] + [(0, 0)] * (a.ndim - 1)) for a in self._totals)
            )
        of_molecule = np.zeros((*known.shape, 8))
        values = predicted, reference, known
        _add_errors((self._row, first, place), values, of_molecule, self._totals)
        return np.moveaxis(of_molecule, -1, 0)

    def errors(
        self, groups: Int[np.ndarray, "*shape"] | Sequence[int], level: int = 0
    ) -> Errors | None:
        """Returns the errors of a level in some groups together; None without any."""
        rows = self._row[np.asarray(groups)]
        chosen = rows[rows >= 0]
        sums = self._totals.sums[chosen, level].sum(axis=0)
        n, error, size, squared = sums[:4].tolist()
        if not n:
            return None
        counts = self._totals.counts[chosen, level].sum(axis=0, dtype=np.int64)
        largest = float(self._totals.largest[chosen, level].max())
        quantiles = _percentiles(counts, largest)
        related = float(correlation(sums))
        return Errors(
            count=int(n),
            mean=error / n,
            mae=size / n,
            rmse=float(np.sqrt(squared / n)),
            max=largest,
            correlation=None if np.isnan(related) else related,
            **dict(zip((f"p{p}" for p in _PERCENTILES), quantiles, strict=True)),
        )


class SpreadSums:
    """Values by group, with a linear histogram of each."""

    def __init__(self, n_groups: int, low: float, high: float, width: float) -> None:
        self._low, self._width = low, width
        self._sums = np.zeros((3, n_groups))
        self._ends = np.tile([[np.inf], [-np.inf]], n_groups)
        self._counts = np.zeros((n_groups, round((high - low) / width)), np.int64)

    def add(self, group: Int[np.ndarray, " n"], values: Float[np.ndarray, " n"]) -> None:
        """Adds values; all of them count."""
        n_groups, n_bins = self._counts.shape
        values = values.astype(np.float64)
        for i, column in enumerate((None, values, values**2)):
            self._sums[i] += np.bincount(group, column, minlength=n_groups)
        np.minimum.at(self._ends[0], group, values)
        np.maximum.at(self._ends[1], group, values)
        bins = np.clip((values - self._low) // self._width, 0, n_bins - 1).astype(np.intp)
        np.add.at(self._counts.reshape(-1), group * n_bins + bins, 1)

    def spread(self, groups: Iterable[int]) -> Spread | None:
        """Returns the spread of some groups together; None without any value."""
        chosen = list(groups)
        n, total, squared = self._sums[:, chosen].sum(axis=1).tolist()
        if not n:
            return None
        counts = self._counts[chosen].sum(axis=0)
        filled = np.flatnonzero(counts)
        return Spread(
            count=int(n),
            mean=total / n,
            std=float(np.sqrt(max(squared / n - (total / n) ** 2, 0.0))),
            min=float(self._ends[0, chosen].min()),
            max=float(self._ends[1, chosen].max()),
            start=self._low + float(filled[0]) * self._width,
            width=self._width,
            counts=tuple(counts[filled[0] : filled[-1] + 1].tolist()),
        )


@compiled
def _find_rows(
    row_of: Int[np.ndarray, " group"],
    first: Int[np.ndarray, " B"],
    place: Int[np.ndarray, "B N"],
    n_rows: int,
) -> int:
    """Gives a row to every group that is met and has none; returns how many rows there are."""
    for molecule in range(place.shape[0]):
        for i in range(place.shape[1]):
            if place[molecule, i] >= 0:
                group = first[molecule] + place[molecule, i]
                if row_of[group] < 0:
                    row_of[group] = n_rows
                    n_rows += 1
    return n_rows


@compiled
def _add_errors(
    where: tuple[Int[np.ndarray, " group"], Int[np.ndarray, " B"], Int[np.ndarray, "B N"]],
    values: tuple[
        Float[np.ndarray, "level B N"], Float[np.ndarray, "B N"], Bool[np.ndarray, "level B"]
    ],
    of_molecule: Float[np.ndarray, "level B 8"],
    totals: _Totals,
) -> None:
    (row_of, first, place), (predicted, reference, known) = where, values
    sums, largest, counts = totals
    for molecule in range(place.shape[0]):
        for i in range(place.shape[1]):
            if place[molecule, i] < 0:
                continue
            row = row_of[first[molecule] + place[molecule, i]]
            v = reference[molecule, i]
            for level in range(known.shape[0]):
                if known[level, molecule]:
                    q = predicted[level, molecule, i]
                    add_error(of_molecule[level, molecule], q, v)
                    add_error(sums[row, level], q, v)
                    size, of_size = abs(q - v), counts[row, level]
                    largest[row, level] = max(largest[row, level], size)
                    of_size[_bin_of(size)] += 1


@compiled
def _bin_of(size: float) -> int:
    place = int(np.float32(size).view(np.int32) >> _BITS) - _FIRST_BIN
    # What is not a number is larger than all; no bin is written beyond.
    return min(max(place, 0), _BINS - 1)


def _percentiles(counts: Int[np.ndarray, " bin"], largest: float) -> list[float]:
    upto = np.cumsum(counts)
    wanted = np.array(_PERCENTILES) / 100 * upto[-1]
    bins = np.searchsorted(upto, wanted)
    inside = 1 - (upto[bins] - wanted) / counts[bins]
    edges = (np.arange(_BINS + 1, dtype=np.int32) + _FIRST_BIN << _BITS).view(np.float32)
    return [
        float(min(value, largest))
        for value in edges[bins] + inside * (edges[bins + 1] - edges[bins])
    ]
