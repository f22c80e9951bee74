"""Electrostatic potential of charges, dipoles and quadrupoles on atoms."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float


def multipole_potential(
    points: Float[np.ndarray, "point 3"],
    positions: Float[np.ndarray, "atom 3"],
    charges: Float[np.ndarray, " atom"],
    dipoles: Float[np.ndarray, "atom 3"] | None = None,
    quadrupoles: Float[np.ndarray, "atom 3 3"] | None = None,
) -> Float[np.ndarray, " point"]:
    """Returns V = Σ q/r + μ·r/r³ + Θ:rr/r⁵, with r from each atom to the point.

    A. J. Stone, The Theory of Intermolecular Forces, 2nd ed., Oxford 2013, chapter 3.

    Args:
        points: Points in bohr.
        positions: Atoms in bohr.
        charges: Charges in e.
        dipoles: Dipoles in e·bohr.
        quadrupoles: Traceless quadrupoles in e·bohr², (3 r r - r²) / 2.

    Returns:
        The potential in hartree/e.
    """
    offset = points[:, None] - positions
    inverse = 1.0 / np.linalg.norm(offset, axis=-1)
    potential = inverse @ charges
    if dipoles is not None:
        potential += np.einsum("pax,ax,pa->p", offset, dipoles, inverse**3, optimize=True)
    if quadrupoles is not None:
        along = np.einsum("pax,axy->pay", offset, quadrupoles)
        potential += np.einsum("pay,pay,pa->p", along, offset, inverse**5)
    return potential
