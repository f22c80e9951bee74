"""Electrostatic potential and field of multipoles on atoms."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float


def multipole_potential(  # noqa: PLR0917 - one argument per order
    points: Float[np.ndarray, "point 3"],
    positions: Float[np.ndarray, "atom 3"],
    charges: Float[np.ndarray, " atom"],
    dipoles: Float[np.ndarray, "atom 3"] | None = None,
    quadrupoles: Float[np.ndarray, "atom 3 3"] | None = None,
    octupoles: Float[np.ndarray, "atom 3 3 3"] | None = None,
) -> Float[np.ndarray, " point"]:
    """Returns V = Σ q/r + μ·r/r³ + ½ Q:(3rr - r²)/r⁵ + ..., with r from each atom to the point.

    A. J. Stone, The Theory of Intermolecular Forces, 2nd ed., Oxford 2013, chapter 3. Moments are
    those of the charge, Σ q r r and Σ q r r r about the atom; their traces have no potential.

    Args:
        points: Points in bohr.
        positions: Atoms in bohr.
        charges: Charges in e.
        dipoles: Dipoles in e·bohr.
        quadrupoles: Second moments in e·bohr².
        octupoles: Third moments in e·bohr³.

    Returns:
        The potential in hartree/e.
    """
    offset = points[:, None] - positions
    inverse = 1.0 / np.linalg.norm(offset, axis=-1)
    potential = inverse @ charges
    if dipoles is not None:
        potential += np.einsum("pax,ax,pa->p", offset, dipoles, inverse**3, optimize=True)
    if quadrupoles is not None:
        along = 1.5 * np.einsum("pax,pay,axy->pa", offset, offset, quadrupoles, optimize=True)
        trace = 0.5 * np.trace(quadrupoles, axis1=1, axis2=2)
        potential += np.einsum("pa,pa->p", along * inverse**2 - trace, inverse**3)
    if octupoles is not None:
        planes = np.einsum("pax,axyz->payz", offset, octupoles, optimize=True)
        along = 2.5 * np.einsum("payz,pay,paz->pa", planes, offset, offset)
        trace = 1.5 * np.einsum("pax,ax->pa", offset, _traces(octupoles))
        potential += np.einsum("pa,pa->p", along * inverse**2 - trace, inverse**5)
    return potential


def _traces(octupoles: Float[np.ndarray, "atom 3 3 3"]) -> Float[np.ndarray, "atom 3"]:
    """Traces over each pair of indices, which agree where the moments are symmetric."""
    pairs = ("aijj->ai", "ajij->ai", "ajji->ai")
    return np.asarray(sum(np.einsum(pair, octupoles) for pair in pairs) / 3)


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
