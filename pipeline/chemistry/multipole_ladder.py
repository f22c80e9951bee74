"""How well multipoles on the atoms can explain an ESP: charges, and dipoles, and quadrupoles.

Least squares on the ESP under the exact net charge, after Singh & Kollman, J. Comput. Chem. 5
(1984) 129. No model of that order on the nuclei has a smaller error at these points.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from store_schema.units import BOHR_IN_ANGSTROM

# Singular values below this part of the largest one say nothing.
_RANK = 1e-10


class Ladder(NamedTuple):
    """RMSE of the best multipoles on the atoms, hartree/e.

    Attributes:
        charges: Of charges.
        dipoles: Of charges and dipoles.
        quadrupoles: Of charges, dipoles and quadrupoles.
    """

    charges: float
    dipoles: float
    quadrupoles: float


def fitted_ladder(
    positions: Float[np.ndarray, "atom 3"],
    total_charge: float,
    grid: Float[np.ndarray, "point 3"],
    esp: Float[np.ndarray, " point"],
) -> Ladder:
    """Fits multipoles of each order to the ESP of a molecule.

    Args:
        positions: Of the atoms, in Å.
        total_charge: What the charges sum to, e.
        grid: Points in Å.
        esp: ESP there, hartree/e.

    Returns:
        What is left by each order; it never rises with the order.
    """
    offset = (grid[:, None].astype(np.float64) - positions) / BOHR_IN_ANGSTROM
    inverse = 1 / np.linalg.norm(offset, axis=-1)
    unit = offset * inverse[..., None]
    n_atoms = len(positions)
    # Charges of equal parts, and all changes that leave the sum alone.
    equal = np.full(n_atoms, total_charge / n_atoms)
    changes = np.linalg.svd(np.ones((1, n_atoms)))[2][1:].T
    charges = inverse @ changes
    dipoles = _columns(unit * (inverse**2)[..., None])
    # The five components of a traceless quadrupole.
    x, y, z = np.moveaxis(unit, -1, 0)
    angular = np.stack([x * y, x * z, y * z, x * x - y * y, 3 * z * z - 1], axis=-1)
    quadrupoles = _columns(angular * (inverse**3)[..., None])
    target = np.asarray(esp, np.float64) - inverse @ equal
    orders = (charges,), (charges, dipoles), (charges, dipoles, quadrupoles)
    return Ladder(*(_left(np.concatenate(columns, axis=1), target) for columns in orders))


def _columns(potentials: Float[np.ndarray, "point atom component"]) -> Float[np.ndarray, "point c"]:
    return potentials.reshape(len(potentials), -1)


def _left(design: Float[np.ndarray, "point c"], target: Float[np.ndarray, " point"]) -> float:
    solution, *_ = np.linalg.lstsq(design, target, rcond=_RANK)
    return float(np.sqrt(np.mean((design @ solution - target) ** 2)))
