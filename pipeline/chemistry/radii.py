"""Radii of atoms, and distances in their units: bonds and surfaces."""

from __future__ import annotations

from typing import Final

import numpy as np
from ase.data import covalent_radii, vdw_radii
from jaxtyping import Float, Int

from pipeline.chemistry.arrays import Atoms

# Of the sum of their covalent radii; no two atoms are closer.
CLOSEST_ATOMS = 0.5


def radius_of(
    table: Float[np.ndarray, " element"], numbers: Int[np.ndarray, "*shape"]
) -> Float[np.ndarray, "*shape"]:
    """Returns tabulated radii in Å, NaN at padding and for what is no element."""
    known = (numbers > 0) & (numbers < len(table))
    return np.where(known, table[np.where(known, numbers, 0)], np.nan)


def van_der_waals_radii(numbers: Int[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
    """Returns van der Waals radii in Å (ASE); covalent ones plus 0.8 Å where it has none."""
    radii = radius_of(vdw_radii, numbers)
    return np.where(np.isnan(radii), radius_of(covalent_radii, numbers) + 0.8, radii)


# By atomic number, angstrom; 0 at padding, so that no point is near it.
VDW_RADII: Final = np.nan_to_num(van_der_waals_radii(np.arange(len(covalent_radii))))


def nearest_bonds(atoms: Atoms) -> Float[np.ndarray, "molecule atom"]:
    """Returns each atom's least distance to another over the sum of covalent radii."""
    radii = radius_of(covalent_radii, atoms.numbers)
    difference = atoms.positions[:, :, None] - atoms.positions[:, None, :]
    distance = np.linalg.norm(difference, axis=-1)
    diagonal = range(distance.shape[1])
    distance[:, diagonal, diagonal] = np.nan
    ratio = distance / (radii[:, :, None] + radii[:, None, :])
    return np.nan_to_num(ratio, nan=np.inf).min(axis=2, initial=np.inf)


def surface_distance(
    atoms: Atoms, points: Float[np.ndarray, "molecule point 3"]
) -> Float[np.ndarray, "molecule point"]:
    """Returns each point's distance to the nearest atom, in van der Waals radii; NaN at padding."""
    weights = 1.0 / van_der_waals_radii(atoms.numbers) ** 2
    coordinates = np.moveaxis(points, -1, 0).astype(np.float64, order="C")
    # Squares until the end, in place: memory is what this waits for.
    nearest = np.full(points.shape[:2], np.inf)
    square, part = np.empty_like(nearest), np.empty_like(nearest)
    for atom in range(atoms.positions.shape[1]):
        square[...] = 0.0
        for axis, coordinate in enumerate(coordinates):
            np.subtract(coordinate, atoms.positions[:, atom, None, axis], out=part)
            np.multiply(part, part, out=part)
            square += part
        square *= weights[:, atom, None]
        np.fmin(nearest, square, out=nearest)
    known = np.isfinite(points).all(axis=-1) & np.isfinite(nearest)
    return np.where(known, np.sqrt(nearest), np.nan)
