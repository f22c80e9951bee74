"""Adds up actual errors by the error that an ensemble expects at a point."""

from __future__ import annotations

from typing import Final

import numpy as np
from jaxtyping import Bool, Float

from dcmnet.analysis.statistics import PointCalibration

# Bins of expected errors, in kcal/mol/e: 8 a decade from 10^-5 to 10^3.
_PER_DECADE: Final = 8
_DECADES: Final = (-5, 3)
_BINS: Final = _PER_DECADE * (_DECADES[1] - _DECADES[0])
# Points of a bin below which its mean says little.
_FEWEST: Final = 20


class PointCalibrationSums:
    """Sums over points, of bins of what was expected; memory does not grow with the points."""

    def __init__(self) -> None:
        # Number, squares of expected and of actual errors.
        self._sums = np.zeros((3, _BINS))

    def add(
        self,
        expected: Float[np.ndarray, "B G"],
        error: Float[np.ndarray, "B G"],
        points: Bool[np.ndarray, "B G"],
    ) -> None:
        """Adds points.

        Args:
            expected: Errors to expect, kcal/mol/e.
            error: Actual errors, kcal/mol/e.
            points: True for those that count.
        """
        sizes, errors = expected[points].astype(np.float64), error[points].astype(np.float64)
        decades = np.log10(np.maximum(sizes, 10.0 ** _DECADES[0])) - _DECADES[0]
        bins = np.minimum((decades * _PER_DECADE).astype(np.intp), _BINS - 1)
        for row, values in enumerate((None, sizes**2, errors**2)):
            self._sums[row] += np.bincount(bins, values, minlength=_BINS)

    def result(self) -> PointCalibration:
        """Returns the bins that have points enough."""
        kept = self._sums[:, self._sums[0] >= _FEWEST]
        number, expected, actual = kept
        return PointCalibration(
            expected=tuple(np.sqrt(expected / number).tolist()),
            actual=tuple(np.sqrt(actual / number).tolist()),
            count=tuple(number.astype(int).tolist()),
        )
