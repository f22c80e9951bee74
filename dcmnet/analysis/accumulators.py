"""Sums and histograms of errors by group: memory does not grow with what is added.

Sums are float64. Percentiles are read off a histogram with 64 bins an octave, within
1.6 % of the exact ones.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from jaxtyping import Float, Int

from dcmnet.analysis.point_errors import correlation, with_error
from dcmnet.analysis.statistics import Errors, Spread
from pipeline.compiled import compiled

_BINS_PER_OCTAVE = 64
_OCTAVES = (-20, 14)  # smaller errors count as the smallest, larger ones as the largest
_BINS = _BINS_PER_OCTAVE * (_OCTAVES[1] - _OCTAVES[0])
# The bits of a float32 but those behind the mantissa's sixth are the number of its bin.
_BITS = 23 - 6
_FIRST_BIN = int(np.float32(2.0 ** _OCTAVES[0]).view(np.int32)) >> _BITS
_PERCENTILES = (50, 90, 95, 99)


class ErrorSums:
    """Errors of predictions, by group: sums, the largest, and a histogram.

    There may be many groups; memory is taken for those that something was added to.
    """

    def __init__(self, n_groups: int) -> None:
        self._row = np.full(n_groups, -1)
        self._sums = np.zeros((0, 8))
        self._largest = np.zeros(0)
        self._counts = np.zeros((0, _BINS), np.uint32)

    def add(
        self,
        group: Int[np.ndarray, "*shape"],
        predicted: Float[np.ndarray, "*shape"],
        reference: Float[np.ndarray, "*shape"],
    ) -> None:
        """Adds values, each to its group; those of a negative group do not count."""
        group, predicted, reference = group.ravel(), predicted.ravel(), reference.ravel()
        row = np.empty(len(group), np.int64)
        if new := _find_rows(self._row, group, row, len(self._sums)) - len(self._sums):
            self._sums = np.pad(self._sums, [(0, new), (0, 0)])
            self._largest = np.pad(self._largest, (0, new))
            self._counts = np.pad(self._counts, [(0, new), (0, 0)])
        size = np.abs(predicted - reference, dtype=np.float32)
        _add_errors(row, predicted, reference, self._sums)
        _add_sizes(row, size, size.view(np.int32), self._largest, self._counts)

    def errors(self, groups: Int[np.ndarray, "*shape"] | Sequence[int]) -> Errors | None:
        """Returns the errors of some groups together; None without any."""
        rows = self._row[np.asarray(groups)]
        chosen = rows[rows >= 0]
        sums = self._sums[chosen].sum(axis=0)
        n, error, size, squared = sums[:4].tolist()
        if not n:
            return None
        counts = self._counts[chosen].sum(axis=0, dtype=np.int64)
        largest = float(self._largest[chosen].max())
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
    group: Int[np.ndarray, " n"],
    row: Int[np.ndarray, " n"],
    n_rows: int,
) -> int:
    """Writes the row of each value, new ones where a group has none; returns how many there are."""
    for i in range(len(group)):
        one = group[i]
        if one >= 0 and row_of[one] < 0:
            row_of[one] = n_rows
            n_rows += 1
        row[i] = row_of[one] if one >= 0 else -1
    return n_rows


@compiled
def _add_errors(
    row: Int[np.ndarray, " n"],
    predicted: Float[np.ndarray, " n"],
    reference: Float[np.ndarray, " n"],
    sums: Float[np.ndarray, "row 8"],
) -> None:
    for i in range(len(row)):
        if row[i] >= 0:
            s = sums[row[i]]
            before = (s[0], s[1], s[2], s[3], s[4], s[5], s[6], s[7])
            after = with_error(before, predicted[i], reference[i])
            s[0], s[1], s[2], s[3], s[4], s[5], s[6], s[7] = after


@compiled
def _add_sizes(
    row: Int[np.ndarray, " n"],
    size: Float[np.ndarray, " n"],
    bits: Int[np.ndarray, " n"],
    largest: Float[np.ndarray, " row"],
    counts: Int[np.ndarray, "row bin"],
) -> None:
    for i in range(len(row)):
        if row[i] >= 0:
            largest[row[i]] = max(largest[row[i]], size[i])
            # What is not a number is larger than all; no bin is written beyond.
            counts[row[i], min(max((bits[i] >> _BITS) - _FIRST_BIN, 0), _BINS - 1)] += 1


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
