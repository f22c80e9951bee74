"""Errors at grid points, added up over runs of neighbours: nearly all of the work, done once.

The points of a molecule are sorted by their place, so that those of a place become
neighbours; what is asked for, by molecule or by place, are sums over such runs.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from dcmnet.analysis.grouping import NOWHERE

Sums = Float[np.ndarray, "8 *groups"]


class RunErrors(NamedTuple):
    """Errors of predictions, run by run.

    Attributes:
        sums: Number, sums of error, its absolute value and square, of reference and
            prediction, and of their squares.
        largest: Largest absolute error.
        lengths: Values in each run.
        size: Absolute errors.
    """

    sums: Float[np.ndarray, "8 level run"]
    largest: Float[np.ndarray, "level run"]
    lengths: Int[np.ndarray, " run"]
    size: Float[np.ndarray, "level n"]


class PointErrors(NamedTuple):
    """Errors at the points of a batch.

    Attributes:
        runs: Errors of the points of a molecule that have the same place.
        molecule: Molecule of each run, in the batch.
        place: Place of each run (`grouping`).
        counted: True where the run has a reference, and the level a prediction.
    """

    runs: RunErrors
    molecule: Int[np.ndarray, " run"]
    place: Int[np.ndarray, " run"]
    counted: Bool[np.ndarray, "level run"]


def run_errors(
    reference: Float[np.ndarray, " n"],
    predicted: Float[np.ndarray, "level n"],
    starts: Int[np.ndarray, " run"],
) -> RunErrors:
    """Adds up errors run by run, in float64.

    Args:
        reference: Reference values; all of them count.
        predicted: Predictions of each.
        starts: Where each run begins, ascending, the first at 0.
    """

    def added(values: Float[np.ndarray, "*level n"]) -> Float[np.ndarray, "*level run"]:
        return np.add.reduceat(values, starts, axis=-1, dtype=np.float64)

    error = predicted - reference
    size = np.abs(error)
    lengths = np.diff(starts, append=len(reference))
    total, errors = added(reference), added(error)
    columns = (
        *(lengths, errors, added(size), added(np.square(error, dtype=np.float64))),
        *(total, total + errors, added(np.square(reference, dtype=np.float64))),
        added(np.square(predicted, dtype=np.float64)),
    )
    return RunErrors(
        sums=np.stack(np.broadcast_arrays(*columns)),
        largest=np.maximum.reduceat(size, starts, axis=-1),
        lengths=lengths,
        size=size,
    )


def run_starts(group: Int[np.ndarray, "*shape n"]) -> Int[np.ndarray, " run"]:
    """Returns where each run of equal values begins; a row begins one of its own."""
    begins = np.ones(group.shape, dtype=bool)
    np.not_equal(group[..., 1:], group[..., :-1], out=begins[..., 1:])
    return np.flatnonzero(begins)


def point_errors(
    esp: Float[np.ndarray, "column B G"],
    place: Int[np.ndarray, "B G"],
    known: Bool[np.ndarray, "level B"],
) -> PointErrors:
    """Adds up the errors of a batch.

    Args:
        esp: The reference and, behind it, what each level predicts; anything finite at points that
            do not count.
        place: Place of each point, ``NOWHERE`` for one that does not count.
        known: True where a level has a prediction for the molecule.
    """
    molecules, width = place.shape
    # numpy sorts 16 bits by counting.
    order = np.argsort(place, axis=1, kind="stable") + width * np.arange(molecules)[:, None]
    ordered = np.take(place, order)
    starts = run_starts(ordered)
    values = np.take(esp.reshape(len(esp), -1), order.ravel(), axis=1)
    molecule, of_run = starts // max(width, 1), ordered.ravel()[starts]
    return PointErrors(
        runs=run_errors(values[0], values[1:], starts),
        molecule=molecule,
        place=of_run,
        counted=known[:, molecule] & (of_run != NOWHERE),
    )


def molecule_sums(errors: PointErrors, molecules: int) -> Float[np.ndarray, "8 level B"]:
    """Returns the sums of the runs over each molecule of a batch of so many."""
    levels = len(errors.counted)
    group = errors.molecule + molecules * np.arange(levels)[:, None]
    columns = errors.runs.sums * errors.counted
    added = [np.bincount(group.ravel(), c.ravel(), minlength=levels * molecules) for c in columns]
    return np.stack(added, dtype=np.float64).reshape(len(added), levels, molecules)


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
