"""Whether a grid lies where its ESP says: charges explain an ESP best around their own atoms."""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from jaxtyping import Float

from pipeline.chemistry.arrays import Atoms, Grid
from pipeline.chemistry.radii import surface_distance
from pipeline.inference.lengths import PENETRATED
from pipeline.inference.reference import species
from store_schema.units import BOHR_IN_ANGSTROM

_MOLECULES, _POINTS, _STEPS = 24, 400, 5
_FEWEST_ATOMS, _POINTS_BY_ATOM = 3, 4
# In Å: no step of the search is longer.
_LONGEST_STEP: Final = 0.5
_RIDGE: Final = 1e-6
# Of sound molecules the best place is 0.13 Å away, and leaves 1.08 times less of the ESP; in the
# usual one of many species, and of one that is odd. Measured on the reference data.
_MANY: Final = 8
_DISTANCE, _GAIN = 0.22, 1.25
_DISTANCE_OF_FEW, _GAIN_OF_FEW = 0.4, 1.6


class Shift(NamedTuple):
    """Where grids would have to lie for charges on the atoms to explain the ESP best.

    Attributes:
        distance: Median distance from where they lie, in Å.
        gain: Median of what is left of the ESP where they lie, over what is left there.
    """

    distance: float
    gain: float


def displaced(atoms: Atoms, grid: Grid) -> Shift | None:
    """Returns how far grids are from where their ESP says; None where they are in place.

    Args:
        atoms: Atoms, in Å.
        grid: Grid in Å, ESP in any unit.
    """
    usable = np.isfinite(grid.esp) & np.isfinite(grid.points).all(axis=-1)
    placed = (np.isfinite(atoms.positions).all(axis=-1) | ~atoms.mask).all(axis=1)
    n_atoms = atoms.mask.sum(axis=1)
    enough = usable.sum(axis=1) > _POINTS_BY_ATOM * (n_atoms + 3)
    rows = np.flatnonzero(placed & enough & (n_atoms >= _FEWEST_ATOMS))
    rows = rows[:: max(1, -(-len(rows) // _MOLECULES))]
    found = [
        shift for row in rows.tolist() for shift in [_of_one(atoms, grid, row)] if shift is not None
    ]
    if not found:
        return None
    shift = Shift(*np.median(np.array(found), axis=0).tolist())
    many = species(atoms, rows.tolist()) >= _MANY
    distance, gain = (_DISTANCE, _GAIN) if many else (_DISTANCE_OF_FEW, _GAIN_OF_FEW)
    return shift if shift.distance > distance and shift.gain > gain else None


def _of_one(atoms: Atoms, grid: Grid, row: int) -> Shift | None:
    """The best place of the grid of one molecule."""
    one = Atoms(atoms.numbers[row, None], atoms.positions[row, None], atoms.mask[row, None])
    points = np.nan_to_num(grid.points[row])
    outside = surface_distance(one, points[None])[0] >= PENETRATED
    usable = np.flatnonzero(outside & np.isfinite(grid.esp[row]))
    usable = usable[:: max(1, -(-len(usable) // _POINTS))]
    esp = grid.esp[row, usable].astype(np.float64)
    if not len(usable) or not esp.any():
        return None
    positions = atoms.positions[row][atoms.mask[row]].astype(np.float64)
    shift, left = np.zeros(3), []
    for _ in range(_STEPS):
        step, residual = _step(positions, points[usable] + shift, esp)
        left.append(residual)
        shift = shift + np.clip(step, -_LONGEST_STEP, _LONGEST_STEP)
    return Shift(float(np.linalg.norm(shift)), left[0] / max(min(left), 1e-12))


def _step(
    positions: Float[np.ndarray, "atom 3"],
    points: Float[np.ndarray, "point 3"],
    esp: Float[np.ndarray, " point"],
) -> tuple[Float[np.ndarray, "3"], float]:
    """A Gauss-Newton step of the grid, with the charges, and what they leave of the ESP here."""
    apart = points[None] - positions[:, None]
    inverse = 1 / np.maximum(np.linalg.norm(apart, axis=-1), 1e-3)
    design = BOHR_IN_ANGSTROM * inverse
    charges = _least_squares(design, esp)
    moved = -BOHR_IN_ANGSTROM * np.einsum("a,apx,ap->xp", charges, apart, inverse**3)
    step = _least_squares(np.concatenate([design, moved]), esp)[len(positions) :]
    return step, float(np.linalg.norm(esp - charges @ design))


def _least_squares(
    design: Float[np.ndarray, "column point"], esp: Float[np.ndarray, " point"]
) -> Float[np.ndarray, " column"]:
    normal = design @ design.T
    normal[np.diag_indices(len(normal))] += _RIDGE * np.trace(normal) / len(normal)
    return np.linalg.solve(normal, design @ esp)
