"""Copies rows of a buffer into arrays of a batch: what a molecule has, and zeros behind it."""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Bool, Int, Shaped

from pipeline.compiled import compiled


def take_rows(
    field: Shaped[np.ndarray, "n W *rest"],
    slots: Int[np.ndarray, " B"],
    lengths: Int[np.ndarray, " B"],
    width: int,
) -> Shaped[np.ndarray, "B width *rest"]:
    """Takes the first values of some rows, and zeros behind them.

    Whole rows are copied, which numpy does fastest.

    Args:
        field: Rows, at least as wide as the result.
        slots: Rows to take.
        lengths: Values to take of each.
        width: Width of the result.
    """
    rest = field.shape[2:]
    numbers = math.prod(rest)
    taken = np.empty((len(slots), width * numbers), field.dtype)
    _copy(field.reshape(len(field), -1), slots, lengths * numbers, taken)
    return taken.reshape(len(slots), width, *rest)


def take_points(
    field: Shaped[np.ndarray, "n W *rest"],
    slots: Int[np.ndarray, " B"],
    points: Int[np.ndarray, "B width"],
) -> Shaped[np.ndarray, "B width *rest"]:
    """Takes the given points of some rows; a negative one is zero.

    Args:
        field: Rows.
        slots: Rows to take.
        points: Places in each of them.
    """
    rest = field.shape[2:]
    padded = np.empty((*points.shape, math.prod(rest)), field.dtype)
    _pick(field.reshape(*field.shape[:2], -1), slots, points, padded)
    return padded.reshape(*points.shape, *rest)


def mask_rows(lengths: Int[np.ndarray, " B"], width: int) -> Bool[np.ndarray, "B width"]:
    """Makes a mask whose rows are true up to a length each."""
    mask = np.empty((len(lengths), width), np.bool_)
    _mask(lengths, mask)
    return mask


@compiled
def _copy(
    field: Shaped[np.ndarray, "n W"],
    slots: Int[np.ndarray, " B"],
    lengths: Int[np.ndarray, " B"],
    taken: Shaped[np.ndarray, "B width"],
) -> None:
    # One by one, which becomes a copy of memory; slices assigned take twice as long.
    for row in range(len(slots)):
        source, target, length = field[slots[row]], taken[row], lengths[row]
        for i in range(length):
            target[i] = source[i]
        for i in range(length, len(target)):
            target[i] = 0


@compiled
def _pick(
    field: Shaped[np.ndarray, "n W c"],
    slots: Int[np.ndarray, " B"],
    points: Int[np.ndarray, "B width"],
    padded: Shaped[np.ndarray, "B width c"],
) -> None:
    for row in range(len(slots)):
        for i in range(points.shape[1]):
            point = points[row, i]
            for component in range(padded.shape[2]):
                padded[row, i, component] = field[slots[row], point, component] if point >= 0 else 0


@compiled
def _mask(lengths: Int[np.ndarray, " B"], mask: Bool[np.ndarray, "B width"]) -> None:
    for row in range(len(lengths)):
        for i in range(mask.shape[1]):
            mask[row, i] = i < lengths[row]
