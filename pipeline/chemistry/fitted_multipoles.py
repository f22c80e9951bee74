"""Multipoles on the atoms that explain an ESP, and the moments of molecules that they give.

Least squares as for charges (`fitted_charges`), with dipoles and quadrupoles as further columns.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from pipeline.chemistry.fitted_charges import solve_charges, variation
from store_schema.units import BOHR_IN_ANGSTROM

# A slight preference for small values, without which multipoles of neighbours run away.
_RIDGE = 1e-5


def unexplained_by_multipoles(
    positions: Float[np.ndarray, "molecule atom 3"],
    grid: Float[np.ndarray, "molecule point 3"],
    grid_mask: Bool[np.ndarray, "molecule point"],
    esp: Float[np.ndarray, "molecule point"],
    *,
    stride: int,
    quadrupoles: bool,
) -> Float[np.ndarray, " molecule"]:
    """Returns the part of an ESP's variation that charges and dipoles on the atoms leave.

    σ-holes of molecules such as F2 are quadrupoles of the atoms; a grid in another order is
    explained by nothing.

    Args:
        positions: Of molecules that all have the same number of atoms, in Å.
        grid: Points in Å.
        grid_mask: Which of them count.
        esp: In hartree/e.
        stride: Fit to every so many points only; what is left is that of all points.
        quadrupoles: Put quadrupoles on the atoms as well.
    """
    # What is asked for is a share of some percent, for which single precision will do.
    single = positions.astype(np.float32), grid.astype(np.float32, copy=False)
    design = _multipole_potentials(*single, quadrupoles=quadrupoles)
    design *= grid_mask[:, None]
    target = np.where(grid_mask, esp, 0.0).astype(np.float64)
    solution = _fitted(design[..., ::stride].astype(np.float64), target[:, ::stride])
    left = target - (solution[:, None].astype(np.float32) @ design)[:, 0]
    return np.linalg.norm(left, axis=1) / variation(target, grid_mask)


def fit_multipoles(
    positions: Float[np.ndarray, "atom 3"],
    grid: Float[np.ndarray, "point 3"],
    esp: Float[np.ndarray, " point"],
) -> tuple[Float[np.ndarray, " atom"], Float[np.ndarray, "atom 3"], float]:
    """Fits charges and dipoles on the atoms of one molecule, in Å and hartree/e.

    Returns:
        Charges in e, dipoles in e·Å, relative residual.
    """
    design = _multipole_potentials(positions, grid, quadrupoles=False)
    solution = _fitted(design[None], esp[None])[0]
    norm = np.linalg.norm(esp)
    residual = float(np.linalg.norm(esp - solution @ design) / norm) if norm else np.nan
    atoms = len(positions)
    return solution[:atoms], solution[atoms:].reshape(3, atoms).T, residual


def _multipole_potentials(
    positions: Float[np.ndarray, "*molecule atom 3"],
    grid: Float[np.ndarray, "*molecule point 3"],
    *,
    quadrupoles: bool,
) -> Float[np.ndarray, "*molecule column point"]:
    """Potentials of unit multipoles on the atoms, those of all atoms component by component."""
    places, atoms = np.swapaxes(grid, -1, -2), np.swapaxes(positions, -1, -2)
    displacement = places[..., None, :] - atoms[..., None]
    squared = np.einsum("...xap,...xap->...ap", displacement, displacement)
    inverse = 1 / np.maximum(np.sqrt(squared, out=squared), 1e-3)
    pairs = [*zip(*np.triu_indices(3), strict=True)] if quadrupoles else []
    *molecules, n_atoms, n_points = inverse.shape
    design = np.empty((*molecules, 4 + len(pairs), n_atoms, n_points), inverse.dtype)
    np.multiply(BOHR_IN_ANGSTROM, inverse, out=design[..., 0, :, :])
    squares = inverse * inverse
    cubes = design[..., :1, :, :] * squares[..., None, :, :]
    np.multiply(displacement, cubes, out=design[..., 1:4, :, :])
    fifth = squares * squares * inverse if pairs else squares
    for column, (x, y) in enumerate(pairs, start=4):
        product = displacement[..., x, :, :] * displacement[..., y, :, :]
        np.multiply(product, fifth, out=design[..., column, :, :])
    return design.reshape(*molecules, -1, n_points)


def _fitted(
    design: Float[np.ndarray, "molecule column point"], esp: Float[np.ndarray, "molecule point"]
) -> Float[np.ndarray, "molecule column"]:
    normal, right = design @ np.swapaxes(design, -1, -2), (design @ esp[..., None])[..., 0]
    return np.asarray(solve_charges(normal, right, np.ones(right.shape, bool), ridge=_RIDGE))


def moments(
    positions: Float[np.ndarray, "atom 3"],
    charges: Float[np.ndarray, " atom"],
    dipoles: Float[np.ndarray, "atom 3"] | None = None,
) -> tuple[Float[np.ndarray, "3"], Float[np.ndarray, "3 3"]]:
    """Returns dipole and traceless quadrupole of charges and dipoles, about the origin."""
    dipole = charges @ positions
    quadrupole = np.einsum("a,ai,aj->ij", charges, positions, positions)
    if dipoles is not None:
        dipole = dipole + dipoles.sum(axis=0)
        mixed = np.einsum("ai,aj->ij", positions, dipoles)
        quadrupole = quadrupole + mixed + mixed.T
    return dipole, traceless(quadrupole)


def traceless(tensor: Float[Any, "*batch 3 3"]) -> Float[Any, "*batch 3 3"]:
    """Removes the trace of tensors, of NumPy or JAX."""
    xp = tensor.__array_namespace__()
    trace = xp.trace(tensor, axis1=-2, axis2=-1)[..., None, None]
    unit = xp.broadcast_to(xp.eye(3, dtype=tensor.dtype), tensor.shape)
    return tensor - trace * unit / 3
