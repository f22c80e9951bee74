"""Sums and histograms of errors by group: memory does not grow with what is added.

Sums are float64. Percentiles are read off a histogram with 100 bins a decade, within
2.4 % of the exact ones.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from jaxtyping import Float, Int

from dcmnet.analysis.point_errors import RunErrors, correlation, run_errors, run_starts
from dcmnet.analysis.statistics import Errors, Spread

_BINS_PER_DECADE = 100
_DECADES = (-6, 4)  # smaller errors count as the smallest, larger ones as the largest
_BINS = _BINS_PER_DECADE * (_DECADES[1] - _DECADES[0])
_PERCENTILES = (50, 90, 95, 99)


class ErrorSums:
    """Errors of predictions, by group: what ``RunErrors`` has of a run, and a histogram.

    There may be many groups; memory is taken for those that something was added to.
    """

    def __init__(self, n_groups: int) -> None:
        self._row = np.full(n_groups, -1)
        self._sums = np.zeros((8, 0))
        self._largest = np.zeros(0)
        self._counts = np.zeros((0, _BINS), np.uint32)

    def add(
        self,
        group: Int[np.ndarray, " n"],
        predicted: Float[np.ndarray, " n"],
        reference: Float[np.ndarray, " n"],
    ) -> None:
        """Adds values; all of them count. Quickest where those of a group are neighbours."""
        starts = run_starts(group)
        self.add_runs(group[None, starts], run_errors(reference, predicted[None], starts))

    def add_runs(self, group: Int[np.ndarray, "level run"], runs: RunErrors) -> None:
        """Adds runs, each to its group."""
        row = self._rows_of(group.ravel())
        for i, column in enumerate(runs.sums):
            self._sums[i] += np.bincount(row, column.ravel(), minlength=len(self._largest))
        np.maximum.at(self._largest, row, runs.largest.ravel())
        # Flat, as numpy is several times faster on a single index.
        bins = np.repeat(row * _BINS, np.tile(runs.lengths, len(group)))
        bins += _bin_of(runs.size).ravel()
        np.add.at(self._counts.reshape(-1), bins, np.uint32(1))

    def _rows_of(self, group: Int[np.ndarray, " run"]) -> Int[np.ndarray, " run"]:
        """Returns where groups are kept, after making room for those that are new."""
        row = self._row[group]
        new = np.unique(group[row < 0])
        if not new.size:
            return row
        n_rows = len(self._largest)
        self._row[new] = np.arange(n_rows, n_rows + new.size)
        self._sums = np.pad(self._sums, [(0, 0), (0, new.size)])
        self._largest = np.pad(self._largest, (0, new.size))
        self._counts = np.pad(self._counts, [(0, new.size), (0, 0)])
        return self._row[group]

    def errors(self, groups: Int[np.ndarray, "*shape"] | Sequence[int]) -> Errors | None:
        """Returns the errors of some groups together; None without any."""
        rows = self._row[np.asarray(groups)]
        chosen = rows[rows >= 0]
        sums = self._sums[:, chosen].sum(axis=1)
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


def _bin_of(size: Float[np.ndarray, "*shape"]) -> Int[np.ndarray, "*shape"]:
    with np.errstate(divide="ignore"):  # no error at all is the smallest
        place = np.log10(size, dtype=np.float32)
    place -= _DECADES[0]
    place *= _BINS_PER_DECADE
    return np.clip(place, 0, _BINS - 1, out=place).astype(np.int32)


def _percentiles(counts: Int[np.ndarray, " bin"], largest: float) -> list[float]:
    upto = np.cumsum(counts)
    wanted = np.array(_PERCENTILES) / 100 * upto[-1]
    bins = np.searchsorted(upto, wanted)
    inside = 1 - (upto[bins] - wanted) / counts[bins]
    logarithm = _DECADES[0] + (bins + inside) / _BINS_PER_DECADE
    return [float(value) for value in np.minimum(10.0**logarithm, largest)]
