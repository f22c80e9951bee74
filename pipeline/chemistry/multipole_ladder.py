"""How well multipoles on the atoms can explain an ESP: charges, and dipoles, and quadrupoles.

Least squares on the ESP under the exact net charge, after Singh & Kollman, J. Comput. Chem. 5
(1984) 129. No model of that order on the nuclei has a smaller error at these points.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from store_schema.units import BOHR_IN_ANGSTROM

# A column that the columns before it leave less than this part of says nothing of its own.
_INDEPENDENT = 1e-9


class Ladder(NamedTuple):
    """RMSE of the best multipoles on the atoms, hartree/e; NaN of more unknowns than points.

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
        total_charge: What the charges sum to, e; NaN if that is not known.
        grid: Points in Å.
        esp: ESP there, hartree/e.

    Returns:
        What is left by each order; it never rises with the order.
    """
    offset = (grid[:, None].astype(np.float64) - positions) / BOHR_IN_ANGSTROM
    inverse = 1 / np.linalg.norm(offset, axis=-1)
    unit = offset * inverse[..., None]
    charges, target = _charges(inverse, total_charge, np.asarray(esp, np.float64))
    dipoles = _columns(unit * (inverse**2)[..., None])
    # The five components of a traceless quadrupole.
    x, y, z = np.moveaxis(unit, -1, 0)
    angular = np.stack([x * y, x * z, y * z, x * x - y * y, 3 * z * z - 1], axis=-1)
    orders = charges, dipoles, _columns(angular * (inverse**3)[..., None])
    return Ladder(*_left(orders, target))


def _charges(
    potentials: Float[np.ndarray, "point atom"], total: float, esp: Float[np.ndarray, " point"]
) -> tuple[Float[np.ndarray, "point c"], Float[np.ndarray, " point"]]:
    """Potentials of all changes that leave the sum alone, and what equal charges leave."""
    n_atoms = potentials.shape[1]
    if np.isnan(total):
        return potentials, esp
    changes = np.linalg.svd(np.ones((1, n_atoms)))[2][1:].T
    return potentials @ changes, esp - potentials.sum(axis=1) * (total / n_atoms)


def _columns(potentials: Float[np.ndarray, "point atom component"]) -> Float[np.ndarray, "point c"]:
    return potentials.reshape(len(potentials), -1)


def _left(
    orders: tuple[Float[np.ndarray, "point _"], ...], target: Float[np.ndarray, " point"]
) -> list[float]:
    """RMSE of the target less its projections on the columns of each order and those below."""
    design = np.concatenate(orders, axis=1)[:, : len(target)]
    scaled = design / np.linalg.norm(design, axis=0)
    # The last column of the triangle has the target's part along each column, and what is left.
    # (NumPy's annotations know of the other modes only.)
    triangle = np.asarray(np.linalg.qr(np.column_stack([scaled, target]), mode="r"))
    parts = triangle[:, -1] ** 2
    independent = np.abs(np.diagonal(triangle)) > _INDEPENDENT
    independent[-1] = False
    ends = np.cumsum([order.shape[1] for order in orders])
    explained = [independent & (np.arange(len(parts)) < end) for end in ends]
    return [
        float(np.sqrt(parts[~by].sum() / len(target))) if end < len(target) else np.nan
        for end, by in zip(ends, explained, strict=True)
    ]
