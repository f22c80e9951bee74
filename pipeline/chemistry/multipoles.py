"""Electrostatic potential and field of charges, dipoles and quadrupoles on atoms."""

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


def multipole_field(
    points: Float[np.ndarray, "point 3"],
    positions: Float[np.ndarray, "atom 3"],
    charges: Float[np.ndarray, " atom"],
    dipoles: Float[np.ndarray, "atom 3"] | None = None,
) -> Float[np.ndarray, "point 3"]:
    """Returns the slope E = -∇V of charges and dipoles, Σ q r/r³ + 3 (μ·r) r/r⁵ - μ/r³.

    Args:
        points: Points in bohr.
        positions: Atoms in bohr.
        charges: Charges in e.
        dipoles: Dipoles in e·bohr.

    Returns:
        The field in hartree/e/bohr.
    """
    offset = points[:, None] - positions
    inverse = 1.0 / np.linalg.norm(offset, axis=-1)
    radial = charges * inverse**3
    if dipoles is None:
        return np.asarray(np.einsum("pa,pax->px", radial, offset))
    radial = radial + 3 * np.einsum("pax,ax->pa", offset, dipoles) * inverse**5
    return np.asarray(np.einsum("pa,pax->px", radial, offset) - inverse**3 @ dipoles)
