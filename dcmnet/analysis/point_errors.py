"""Sums of errors, and what follows from them: correlation, and quantiles of their sizes."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from pipeline.compiled import compiled

# Number, sums of error, its absolute value and square, of reference and prediction, and of
# their squares; float64.
Sums = Float[np.ndarray, "8 *groups"]


class MoleculeSums(NamedTuple):
    """Sums of the molecules of a batch, each over its own.

    Attributes:
        esp: Of each of ``LEVELS`` over the points, kcal/mol/e.
        monopoles: Over the atoms, e; zeros where the molecule has no reference.
    """

    esp: Float[np.ndarray, "8 level B"]
    monopoles: Float[np.ndarray, "8 B"]


@compiled
def add_error(sums: Float[np.ndarray, "8"], predicted: float, reference: float) -> None:
    """Adds one value to sums; for compiled loops over values.

    Args:
        sums: As in `Sums`.
        predicted: What is predicted, in single precision or double.
        reference: What it should be; the difference is taken in this precision.
    """
    error = np.float64(predicted - reference)
    q, v = np.float64(predicted), np.float64(reference)
    sums[0] += 1
    sums[1] += error
    sums[2] += abs(error)
    sums[3] += error * error
    sums[4] += v
    sums[5] += q
    sums[6] += v * v
    sums[7] += q * q


def correlation(sums: Sums) -> Float[np.ndarray, "*groups"]:
    """Returns Pearson's correlation of prediction and reference, NaN where one is constant."""
    n, _, _, squared_error, reference, predicted, reference_2, predicted_2 = sums
    product = (reference_2 + predicted_2 - squared_error) / 2
    with np.errstate(invalid="ignore", divide="ignore"):
        variances = reference_2 - reference**2 / n, predicted_2 - predicted**2 / n
        value = (product - reference * predicted / n) / np.sqrt(variances[0] * variances[1])
    varied = np.minimum(*variances) > 1e-12 * np.maximum(reference_2, predicted_2)
    return np.where(varied, np.clip(value, -1.0, 1.0), np.nan)


def row_quantiles(
    values: Float[np.ndarray, "row N"],
    known: Bool[np.ndarray, "row N"],
    shares: tuple[float, ...],
) -> list[Float[np.ndarray, " row"]]:
    """Returns quantiles of each row's values that are known, exact; NaN without any.

    They are interpolated linearly between the sorted values, as numpy does.
    """
    count = known.sum(axis=1)
    ordered = np.sort(np.where(known, values, values.dtype.type(np.inf)), axis=1)
    row, found = np.arange(len(values)), []
    for share in shares:
        if not ordered.shape[1]:
            found.append(np.full(len(values), np.nan))
            continue
        place = share * np.maximum(count - 1, 0)
        below = np.floor(place).astype(int)
        low, high = ordered[row, below], ordered[row, np.ceil(place).astype(int)]
        with np.errstate(invalid="ignore"):  # without values both are infinite
            found.append(np.where(count, low + (high - low) * (place - below), np.nan))
    return found
