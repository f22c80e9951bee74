"""Sums and histograms of errors by group: memory does not grow with what is added.

Sums are float64. Percentiles are read off a histogram with 100 bins a decade, within
2.4 % of the exact ones.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from dcmnet.analysis.statistics import Errors, Spread

_BINS_PER_DECADE = 100
_DECADES = (-6, 4)  # smaller errors count as the smallest, larger ones as the largest
_BINS = _BINS_PER_DECADE * (_DECADES[1] - _DECADES[0])
_PERCENTILES = (50, 90, 95, 99)


class Runs(NamedTuple):
    """Reference values in runs of neighbours that belong to a group each.

    Attributes:
        starts: Where each run begins, ascending, the first at 0.
        lengths: Values in each.
        reference: The values, float64.
        sums: Sum of the values of each run, and of their squares.
    """

    starts: Int[np.ndarray, " run"]
    lengths: Int[np.ndarray, " run"]
    reference: Float[np.ndarray, " n"]
    sums: Float[np.ndarray, "2 run"]


class RunErrors(NamedTuple):
    """Errors of predictions, each run of neighbours added up: nearly all of the work, done once.

    Attributes:
        sums: Number, sums of error, its absolute value and square, of reference and
            prediction, and of their squares.
        largest: Largest error.
        lengths: Predictions in the run.
        bins: Bin of the histogram of each prediction.
    """

    sums: Float[np.ndarray, "8 run"]
    largest: Float[np.ndarray, " run"]
    lengths: Int[np.ndarray, " run"]
    bins: Int[np.ndarray, " n"]


def reference_runs(starts: Int[np.ndarray, " run"], reference: Float[np.ndarray, " n"]) -> Runs:
    """Adds up reference values run by run, once for all predictions of them.

    Args:
        starts: Where each run begins, ascending, the first at 0.
        reference: Reference values; all of them count.
    """
    lengths = np.diff(starts, append=len(reference))
    reference = reference.astype(np.float64)
    sums = [np.add.reduceat(column, starts) for column in (reference, reference**2)]
    return Runs(starts, lengths, reference, np.stack(sums))


def run_errors(runs: Runs, predicted: Float[np.ndarray, " n"]) -> RunErrors:
    """Adds up errors run by run.

    Args:
        runs: The reference values.
        predicted: Predicted values, one each.
    """
    error = predicted - runs.reference
    size = np.abs(error)
    columns = (error, size, error * error, error * runs.reference)
    errors, sizes, squares, mixed = (np.add.reduceat(c, runs.starts) for c in columns)
    total, of_squares = runs.sums
    # A prediction is its reference and its error.
    of_predictions = total + errors, of_squares + 2 * mixed + squares
    return RunErrors(
        sums=np.stack(
            [
                *(runs.lengths, errors, sizes, squares),
                *(total, of_predictions[0], of_squares, of_predictions[1]),
            ]
        ),
        largest=np.maximum.reduceat(size, runs.starts),
        lengths=runs.lengths,
        bins=_bin_of(size),
    )


def run_starts(group: Int[np.ndarray, " n"]) -> Int[np.ndarray, " run"]:
    """Returns where each run of equal values begins."""
    begins = np.ones(len(group), dtype=bool)
    np.not_equal(group[1:], group[:-1], out=begins[1:])
    return np.flatnonzero(begins)


class ErrorSums:
    """Errors of predictions, by group: what ``RunErrors`` has of a run, and a histogram."""

    def __init__(self, n_groups: int) -> None:
        self._sums = np.zeros((8, n_groups))
        self._largest = np.zeros(n_groups)
        self._counts = np.zeros((n_groups, _BINS), np.int64)

    def add(
        self,
        group: Int[np.ndarray, " n"],
        predicted: Float[np.ndarray, " n"],
        reference: Float[np.ndarray, " n"],
    ) -> None:
        """Adds values; all of them count. Quickest where those of a group are neighbours."""
        starts = run_starts(group)
        self.add_runs(group[starts], run_errors(reference_runs(starts, reference), predicted))

    def add_runs(self, group: Int[np.ndarray, " run"], runs: RunErrors) -> None:
        """Adds runs, each to its group."""
        for i, column in enumerate(runs.sums):
            self._sums[i] += np.bincount(group, column, minlength=len(self._largest))
        np.maximum.at(self._largest, group, runs.largest)
        # Flat, as numpy is several times faster on a single index.
        first_bin = np.repeat(group * np.int64(_BINS), runs.lengths)
        np.add.at(self._counts.reshape(-1), first_bin + runs.bins, 1)

    def errors(self, groups: Iterable[int]) -> Errors | None:
        """Returns the errors of some groups together; None without any."""
        chosen = list(groups)
        sums = self._sums[:, chosen].sum(axis=1)
        n, error, size, squared = sums[:4].tolist()
        if not n:
            return None
        counts = self._counts[chosen].sum(axis=0)
        largest = float(self._largest[chosen].max())
        quantiles = _percentiles(counts, largest)
        return Errors(
            count=int(n),
            mean=error / n,
            mae=size / n,
            rmse=float(np.sqrt(squared / n)),
            max=largest,
            correlation=_correlation(sums),
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


def molecule_errors(
    predicted: Float[np.ndarray, "B G"],
    reference: Float[np.ndarray, "B G"],
    points: Bool[np.ndarray, "B G"],
) -> dict[str, Float[np.ndarray, " B"]]:
    """Returns the errors of each molecule over its valid points, in the unit given; exact.

    Args:
        predicted: Predicted values.
        reference: Reference values.
        points: True where a point counts; a molecule without any gets NaN.

    Returns:
        ``rmse``, ``mae``, ``mean``, ``p50``, ``p95``, ``max`` and ``correlation``.
    """
    count = np.where(points.any(axis=1), points.sum(axis=1), np.nan)
    error = np.where(points, predicted.astype(np.float64) - reference, 0.0)
    size = np.abs(error)
    ordered = np.sort(np.where(points, size, np.inf), axis=1)
    moments = [
        np.where(points, values, 0.0).sum(axis=1, dtype=np.float64)
        for values in (reference, predicted)
    ]
    centred = [
        np.where(points, values - (total / count)[:, None], 0.0)
        for values, total in zip((reference, predicted), moments, strict=True)
    ]
    with np.errstate(invalid="ignore", divide="ignore"):  # one point, or one value: NaN
        correlation = (centred[0] * centred[1]).sum(axis=1) / np.sqrt(
            (centred[0] ** 2).sum(axis=1) * (centred[1] ** 2).sum(axis=1)
        )
    return {
        "rmse": np.sqrt((error**2).sum(axis=1) / count),
        "mae": size.sum(axis=1) / count,
        "mean": error.sum(axis=1) / count,
        "p50": _sorted_quantile(ordered, count, 0.5),
        "p95": _sorted_quantile(ordered, count, 0.95),
        "max": np.where(np.isfinite(count), size.max(axis=1, initial=0.0), np.nan),
        "correlation": correlation,
    }


def molecule_rmse(
    predicted: Float[np.ndarray, "B G"],
    reference: Float[np.ndarray, "B G"],
    points: Bool[np.ndarray, "B G"],
) -> Float[np.ndarray, " B"]:
    """Returns ``molecule_errors(...)["rmse"]`` alone, for a fifth of the work."""
    count = np.where(points.any(axis=1), points.sum(axis=1), np.nan)
    error = np.where(points, predicted.astype(np.float64) - reference, 0.0)
    return np.sqrt((error**2).sum(axis=1) / count)


def _sorted_quantile(
    ordered: Float[np.ndarray, "B G"], count: Float[np.ndarray, " B"], share: float
) -> Float[np.ndarray, " B"]:
    """Interpolates linearly between the sorted values, as numpy does."""
    if not ordered.shape[1]:
        return np.full(len(ordered), np.nan)
    place = share * (np.nan_to_num(count, nan=1.0) - 1)
    below = np.floor(place).astype(int)
    above = np.ceil(place).astype(int)
    row = np.arange(len(ordered))
    low, high = (np.where(np.isfinite(count), ordered[row, i], np.nan) for i in (below, above))
    return low + (high - low) * (place - below)


def _bin_of(size: Float[np.ndarray, " n"]) -> Int[np.ndarray, " n"]:
    with np.errstate(divide="ignore"):  # no error at all is the smallest
        place = (np.log10(size.astype(np.float32)) - _DECADES[0]) * _BINS_PER_DECADE
    return np.clip(place, 0, _BINS - 1).astype(np.intp)


def _percentiles(counts: Int[np.ndarray, " bin"], largest: float) -> list[float]:
    upto = np.cumsum(counts)
    wanted = np.array(_PERCENTILES) / 100 * upto[-1]
    bins = np.searchsorted(upto, wanted)
    inside = 1 - (upto[bins] - wanted) / counts[bins]
    logarithm = _DECADES[0] + (bins + inside) / _BINS_PER_DECADE
    return [float(value) for value in np.minimum(10.0**logarithm, largest)]


def _correlation(sums: Float[np.ndarray, "8"]) -> float | None:
    n, _, _, squared_error, reference, predicted, reference_2, predicted_2 = sums.tolist()
    product = (reference_2 + predicted_2 - squared_error) / 2
    variances = reference_2 - reference**2 / n, predicted_2 - predicted**2 / n
    if min(variances) <= 1e-12 * max(reference_2, predicted_2):
        return None
    value = (product - reference * predicted / n) / np.sqrt(variances[0] * variances[1])
    return float(np.clip(value, -1.0, 1.0))
