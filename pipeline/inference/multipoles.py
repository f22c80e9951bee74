"""Charges and dipoles on the atoms that explain an ESP, and the moments they have.

Least squares on the ESP, as in Singh & Kollman, J. Comput. Chem. 5 (1984) 129. The
relative residual does not depend on the unit of the ESP, so it can tell whether grid and
atoms belong together before that unit is known.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from store_schema.units import BOHR_IN_ANGSTROM

# Relative to the mean diagonal; keeps buried atoms from taking arbitrary charges.
_RIDGE_CHARGES = 1e-6
_RIDGE_MULTIPOLES = 1e-5
# The ESP of a lone ion hardly varies on its shell; rounding is not unexplained variation.
_LEAST_VARIATION = 0.02


class FittedCharges(NamedTuple):
    """Atomic charges that explain the ESP of molecules.

    Attributes:
        charges: In e if the ESP is in hartree/e; 0 at padding.
        residual: Norm of what is left of the ESP over its norm; NaN without an ESP.
        unexplained: The same over the norm of its variation, which even a misplaced net
            charge does not explain.
    """

    charges: Float[np.ndarray, "molecule atom"]
    residual: Float[np.ndarray, " molecule"]
    unexplained: Float[np.ndarray, " molecule"]


class Moments(NamedTuple):
    """Moments of molecules about the origin.

    Attributes:
        dipole: In e·Å.
        quadrupole: Traceless part of Σ q r r, in e·Å².
    """

    dipole: Float[np.ndarray, "molecule 3"]
    quadrupole: Float[np.ndarray, "molecule 3 3"]


def fit_charges(
    positions: Float[np.ndarray, "molecule atom 3"],
    atom_mask: Bool[np.ndarray, "molecule atom"],
    grid: Float[np.ndarray, "molecule point 3"],
    grid_mask: Bool[np.ndarray, "molecule point"],
    esp: Float[np.ndarray, "molecule point"],
) -> FittedCharges:
    """Fits charges on the atoms to the ESP of each molecule, in Å and hartree/e."""
    design = _potentials(positions, atom_mask, grid, grid_mask)
    target = np.where(grid_mask, esp, 0.0).astype(np.float64)
    transposed = design.transpose(0, 2, 1)
    normal = transposed @ design
    n_atoms = np.maximum(atom_mask.sum(axis=1), 1)
    mean = np.trace(normal, axis1=1, axis2=2) / n_atoms
    # Padding atoms get a unit diagonal, so that the matrix is regular and their charge 0.
    diagonal = np.where(atom_mask, _RIDGE_CHARGES * mean[:, None], 1.0) + (mean == 0)[:, None]
    normal[:, range(normal.shape[1]), range(normal.shape[1])] += diagonal
    charges = np.linalg.solve(normal, transposed @ target[..., None])[..., 0]
    left = target - (design @ charges[..., None])[..., 0]
    norm = np.linalg.norm(target, axis=1)
    mean_esp = target.sum(axis=1) / np.maximum(grid_mask.sum(axis=1), 1)
    variation = np.linalg.norm((target - mean_esp[:, None]) * grid_mask, axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        size = np.where(norm > 0, np.linalg.norm(left, axis=1), np.nan)
        unexplained = size / np.maximum(variation, _LEAST_VARIATION * norm)
        return FittedCharges(charges * atom_mask, size / norm, unexplained)


def unexplained_by_quadrupoles(
    positions: Float[np.ndarray, "atom 3"],
    grid: Float[np.ndarray, "point 3"],
    esp: Float[np.ndarray, " point"],
) -> float:
    """Returns the part of an ESP's variation that charges to quadrupoles on the atoms leave.

    σ-holes of molecules such as F2 are quadrupoles of the atoms; a grid in another order is
    explained by nothing.
    """
    displacement, distance, columns = _multipole_columns(positions, grid)
    products = displacement[..., :, None] * displacement[..., None, :]
    upper = products[..., *np.triu_indices(3)] / distance[..., None] ** 5
    design = np.concatenate([columns, upper.reshape(len(grid), -1)], axis=1)
    left = esp - design @ _ridge(design, esp)
    variation = max(np.linalg.norm(esp - esp.mean()), _LEAST_VARIATION * np.linalg.norm(esp))
    return float(np.linalg.norm(left) / variation)


def fit_multipoles(
    positions: Float[np.ndarray, "atom 3"],
    grid: Float[np.ndarray, "point 3"],
    esp: Float[np.ndarray, " point"],
) -> tuple[Float[np.ndarray, " atom"], Float[np.ndarray, "atom 3"], float]:
    """Fits charges and dipoles on the atoms of one molecule, in Å and hartree/e.

    Returns:
        Charges in e, dipoles in e·Å, relative residual.
    """
    _, _, design = _multipole_columns(positions, grid)
    solution = _ridge(design, esp)
    norm = np.linalg.norm(esp)
    residual = float(np.linalg.norm(esp - design @ solution) / norm) if norm else np.nan
    atoms = len(positions)
    return solution[:atoms], solution[atoms:].reshape(atoms, 3), residual


def _multipole_columns(
    positions: Float[np.ndarray, "atom 3"], grid: Float[np.ndarray, "point 3"]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Displacements, distances, and potentials of unit charges and dipoles on the atoms."""
    displacement = grid[:, None, :] - positions[None, :, :]
    distance = np.maximum(np.linalg.norm(displacement, axis=-1), 1e-3)
    dipoles = BOHR_IN_ANGSTROM * displacement / distance[..., None] ** 3
    columns = [BOHR_IN_ANGSTROM / distance, dipoles.reshape(len(grid), -1)]
    return displacement, distance, np.concatenate(columns, axis=1)


def _ridge(
    design: Float[np.ndarray, "point column"], esp: Float[np.ndarray, " point"]
) -> Float[np.ndarray, " column"]:
    """Least squares with a slight preference for small values."""
    normal = design.T @ design
    ridge = _RIDGE_MULTIPOLES * np.trace(normal) / len(normal)
    return np.linalg.solve(normal + ridge * np.eye(len(normal)), design.T @ esp)


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


def traceless(tensor: Float[np.ndarray, "*batch 3 3"]) -> Float[np.ndarray, "*batch 3 3"]:
    """Removes the trace of tensors."""
    trace = np.trace(tensor, axis1=-2, axis2=-1)[..., None, None]
    return tensor - trace * np.eye(3) / 3


def _potentials(
    positions: Float[np.ndarray, "molecule atom 3"],
    atom_mask: Bool[np.ndarray, "molecule atom"],
    grid: Float[np.ndarray, "molecule point 3"],
    grid_mask: Bool[np.ndarray, "molecule point"],
) -> Float[np.ndarray, "molecule point atom"]:
    """Potential of unit charges on the atoms, 0 at padding; float64, for the normal equations."""
    squared = np.zeros((*grid.shape[:2], positions.shape[1]))
    for axis in range(3):
        squared += (grid[:, :, None, axis] - positions[:, None, :, axis]) ** 2
    both = grid_mask[:, :, None] & atom_mask[:, None, :]
    squared[~both] = np.inf
    return BOHR_IN_ANGSTROM / np.sqrt(np.maximum(squared, 1e-6))
