"""Points that moments of a molecule are about: the origin, or a centre of its atoms."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import numpy as np
from ase.data import atomic_masses
from jaxtyping import Float

from pipeline.chemistry.arrays import Atoms
from pipeline.chemistry.radii import radius_of

ORIGIN: Final = "origin"
_LEAST_WEIGHT: Final = 1e-9


def center_of_mass(atoms: Atoms) -> Float[np.ndarray, "molecule 3"]:
    """Returns the centre of mass of the atoms, in their unit."""
    return _weighted(atoms, radius_of(atomic_masses, atoms.numbers))


def center_of_nuclear_charge(atoms: Atoms) -> Float[np.ndarray, "molecule 3"]:
    """Returns the centre of the nuclear charges, in the unit of the atoms.

    It is the origin of Gaussian's standard orientation.
    """
    return _weighted(atoms, np.where(atoms.mask, atoms.numbers, 0).astype(np.float64))


def _weighted(
    atoms: Atoms, weights: Float[np.ndarray, "molecule atom"]
) -> Float[np.ndarray, "molecule 3"]:
    weights = np.nan_to_num(weights)
    total = np.maximum(weights.sum(axis=1), _LEAST_WEIGHT)
    return np.einsum("ma,max->mx", weights, np.nan_to_num(atoms.positions)) / total[:, None]


# Points other than the origin that dipoles are met about.
CENTERS: Final[Mapping[str, Callable[[Atoms], Float[np.ndarray, "molecule 3"]]]] = {
    "center_of_mass": center_of_mass,
    "center_of_nuclear_charge": center_of_nuclear_charge,
}
POINTS: Final = (ORIGIN, *CENTERS)


def spelled(point: str) -> str:
    """Returns the name of a point in words."""
    return point.replace("_", " ").replace("center", "centre")
