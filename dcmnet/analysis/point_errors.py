"""Errors at grid points, added up by molecule; correlation and quantiles of them."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float, Int

from dcmnet.analysis.grouping import NOWHERE
from pipeline.compiled import compiled

# Number, sums of error, its absolute value and square, of reference and prediction, and of
# their squares.
Sums = Float[np.ndarray, "8 *groups"]
_NOTHING: tuple[float, ...] = (0.0,) * 8


def molecule_sums(
    esp: Float[np.ndarray, "column B G"],
    place: Int[np.ndarray, "B G"],
    known: Bool[np.ndarray, "level B"],
) -> Float[np.ndarray, "8 level B"]:
    """Adds up the errors of each molecule over its points, in float64.

    Args:
        esp: The reference and, behind it, what each level predicts.
        place: Place of each point, ``NOWHERE`` for one that does not count.
        known: True where a level has a prediction for the molecule; elsewhere sums are 0.
    """
    sums = np.zeros((*known.shape, 8))
    _add_points(esp, place, known, NOWHERE, sums)
    return np.moveaxis(sums, -1, 0)


@compiled
def _add_points(
    esp: Float[np.ndarray, "column B G"],
    place: Int[np.ndarray, "B G"],
    known: Bool[np.ndarray, "level B"],
    nowhere: int,
    sums: Float[np.ndarray, "level B 8"],
) -> None:
    for level in range(known.shape[0]):
        for row in range(known.shape[1]):
            if known[level, row]:
                total = _NOTHING
                for point in range(place.shape[1]):
                    if place[row, point] != nowhere:
                        total = with_error(total, esp[level + 1, row, point], esp[0, row, point])
                sums[level, row] = total


@compiled
def with_error(sums: tuple[float, ...], predicted: float, reference: float) -> tuple[float, ...]:
    """Returns sums with one value more; for compiled loops over values.

    Args:
        sums: As in `Sums`.
        predicted: What is predicted, in single precision or double.
        reference: What it should be; the difference is taken in this precision.
    """
    error = np.float64(predicted - reference)
    q, v = np.float64(predicted), np.float64(reference)
    n, errors, sizes, squares, references, predictions, references_2, predictions_2 = sums
    return (
        *(n + 1, errors + error, sizes + abs(error), squares + error * error),
        *(references + v, predictions + q, references_2 + v * v, predictions_2 + q * q),
    )


def correlation(sums: Sums) -> Float[np.ndarray, "*groups"]:
    """Returns Pearson's correlation of prediction and reference, NaN where one is constant."""
    n, _, _, squared_error, reference, predicted, reference_2, predicted_2 = sums
    product = (reference_2 + predicted_2 - squared_error) / 2
    with np.errstate(invalid="ignore", divide="ignore"):
        variances = reference_2 - reference**2 / n, predicted_2 - predicted**2 / n
        value = (product - reference * predicted / n) / np.sqrt(variances[0] * variances[1])
    varied = np.minimum(*variances) > 1e-12 * np.maximum(reference_2, predicted_2)
    return np.where(varied, np.clip(value, -1.0, 1.0), np.nan)


def size_quantiles(
    size: Float[np.ndarray, "B G"], points: Bool[np.ndarray, "B G"], shares: tuple[float, ...]
) -> list[Float[np.ndarray, " B"]]:
    """Returns quantiles of each molecule's values at its points, exact; NaN without any.

    They are interpolated linearly between the sorted values, as numpy does.
    """
    count = points.sum(axis=1)
    ordered = np.sort(np.where(points, size, np.float32(np.inf)), axis=1)
    row, found = np.arange(len(size)), []
    for share in shares:
        if not ordered.shape[1]:
            found.append(np.full(len(size), np.nan))
            continue
        place = share * np.maximum(count - 1, 0)
        below = np.floor(place).astype(int)
        low, high = ordered[row, below], ordered[row, np.ceil(place).astype(int)]
        with np.errstate(invalid="ignore"):  # without points both are infinite
            found.append(np.where(count, low + (high - low) * (place - below), np.nan))
    return found
