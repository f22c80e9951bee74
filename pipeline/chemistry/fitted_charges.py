"""Charges and dipoles on the atoms that explain an ESP, and the moments they have.

Least squares on the ESP, as in Singh & Kollman, J. Comput. Chem. 5 (1984) 129. The
relative residual does not depend on the unit of the ESP, so it can show whether grid and
atoms belong together before that unit is known.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from store_schema.units import BOHR_IN_ANGSTROM

# Relative to the mean diagonal; keeps buried atoms from taking arbitrary charges.
_RIDGE_CHARGES = 1e-6
_RIDGE_MULTIPOLES = 1e-5
# The ESP of a lone ion hardly varies on its shell; rounding is not unexplained variation.
_LEAST_VARIATION = 0.02
# Å that make no difference to infinity.
_FAR = 1e6
# Squared distance of padding, whose potential is then nothing compared with a rounding error. Not
# infinite: products of matrices meet zeros of their own, and warn.
_NOWHERE = 1e30
# Pairs of atoms and points whose arrays stay within the caches.
_CACHED_PAIRS = 2**18


class FittedCharges(NamedTuple):
    """Atomic charges that explain the ESP of molecules.

    Attributes:
        charges: In e if the ESP is in hartree/e; 0 at padding.
        residual: Norm of what is left of the ESP over its norm; NaN without an ESP.
        unexplained: The same over the norm of its variation, which even a misplaced net
            charge does not explain.
        nearest: Least distance of each atom to a point that counts, in Å; at padding, and
            without such a point, so large that it means nothing.
    """

    charges: Float[np.ndarray, "molecule atom"]
    residual: Float[np.ndarray, " molecule"]
    unexplained: Float[np.ndarray, " molecule"]
    nearest: Float[np.ndarray, "molecule atom"]


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
    *,
    stride: int = 1,
) -> FittedCharges:
    """Fits charges on the atoms to the ESP of each molecule, in Å and hartree/e.

    Args:
        positions: Of the atoms.
        atom_mask: True for atoms.
        grid: Points; anything where they do not count.
        grid_mask: Which of them count.
        esp: On the points, likewise.
        stride: Fit to every so many points only, which determine the charges as well; what
            they leave is that of all points.
    """
    n, n_atoms = atom_mask.shape
    charges, nearest = np.zeros((n, n_atoms)), np.full((n, n_atoms), np.inf)
    residual, unexplained = np.empty(n), np.empty(n)
    for some, atoms, points in _of_like_size(atom_mask, grid_mask):
        placed = positions[some, :atoms], atom_mask[some, :atoms]
        places, mask = grid[some, :points], grid_mask[some, :points]
        target = np.where(mask, esp[some, :points], 0.0)
        design = _potentials(*placed, places[:, ::stride], mask[:, ::stride], np.float64)
        fitted = _solved(design, target[:, ::stride], placed[1])
        if stride > 1:
            design = _potentials(*placed, places, mask, np.float32)
        left = target - (fitted[:, None].astype(design.dtype) @ design)[:, 0]
        norm = np.linalg.norm(target, axis=1)
        with np.errstate(invalid="ignore", divide="ignore"):  # no ESP has no residual
            size = np.where(norm > 0, np.linalg.norm(left, axis=1), np.nan)
            unexplained[some] = size / _variation(target, mask)
            residual[some] = size / norm
        charges[some, :atoms] = fitted
        # The largest potential of a unit charge is that at the nearest point.
        nearest[some, :atoms] = BOHR_IN_ANGSTROM / design.max(axis=2)
    return FittedCharges(charges, residual, unexplained, nearest)


def _of_like_size(
    atom_mask: Bool[np.ndarray, "molecule atom"], grid_mask: Bool[np.ndarray, "molecule point"]
) -> Iterator[tuple[Int[np.ndarray, " molecule"], int, int]]:
    """Groups molecules so that little padding is worked on, each group within the caches.

    Yields:
        Which molecules, and the lengths within which their atoms and points lie.
    """
    atoms, points = _extent(atom_mask), _extent(grid_mask)
    order = np.lexsort((points, atoms))[::-1]
    start = 0
    while start < len(order):
        most_atoms = max(1, int(atoms[order[start]]))
        some = order[start : start + cached_molecules(most_atoms * int(points.max()))]
        yield some, most_atoms, max(1, int(points[some].max()))
        start += len(some)


def _extent(mask: Bool[np.ndarray, "molecule k"]) -> Int[np.ndarray, " molecule"]:
    """Length of each row up to its last True."""
    return np.where(mask.any(axis=1), mask.shape[1] - mask[:, ::-1].argmax(axis=1), 0)


def cached_molecules(pairs: int) -> int:
    """Returns how many molecules to work on at once, given the pairs of atoms and points of one."""
    return max(1, _CACHED_PAIRS // max(1, pairs))


def _solved(
    design: Float[np.ndarray, "molecule atom point"],
    esp: Float[np.ndarray, "molecule point"],
    atom_mask: Bool[np.ndarray, "molecule atom"],
) -> Float[np.ndarray, "molecule atom"]:
    """Charges by least squares, 0 at padding."""
    normal = design @ design.transpose(0, 2, 1)
    n_atoms = np.maximum(atom_mask.sum(axis=1), 1)
    mean = np.trace(normal, axis1=1, axis2=2) / n_atoms
    # Padding atoms get a unit diagonal, so that the matrix is regular and their charge 0.
    diagonal = np.where(atom_mask, _RIDGE_CHARGES * mean[:, None], 1.0) + (mean == 0)[:, None]
    normal[:, range(normal.shape[1]), range(normal.shape[1])] += diagonal
    right = design @ esp[..., None].astype(np.float64)
    return np.linalg.solve(normal, right)[..., 0] * atom_mask


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
    solution = _ridge(design[..., ::stride].astype(np.float64), target[:, ::stride])
    left = target - (solution[:, None].astype(np.float32) @ design)[:, 0]
    return np.linalg.norm(left, axis=1) / _variation(target, grid_mask)


def _variation(
    esp: Float[np.ndarray, "molecule point"], mask: Bool[np.ndarray, "molecule point"]
) -> Float[np.ndarray, " molecule"]:
    """Norm of how far each ESP, 0 where it does not count, is from its mean."""
    mean = esp.sum(axis=1) / np.maximum(mask.sum(axis=1), 1)
    size = np.linalg.norm((esp - mean[:, None]) * mask, axis=1)
    return np.maximum(size, _LEAST_VARIATION * np.linalg.norm(esp, axis=1))


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
    solution = _ridge(design, esp)
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


def _ridge(
    design: Float[np.ndarray, "*molecule column point"], esp: Float[np.ndarray, "*molecule point"]
) -> Float[np.ndarray, "*molecule column"]:
    """Least squares with a slight preference for small values."""
    normal = design @ np.swapaxes(design, -1, -2)
    columns = normal.shape[-1]
    ridge = _RIDGE_MULTIPOLES * np.trace(normal, axis1=-2, axis2=-1) / columns
    regular = normal + ridge[..., None, None] * np.eye(columns)
    return np.linalg.solve(regular, design @ esp[..., None])[..., 0]


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
    dtype: type[np.floating],
) -> Float[np.ndarray, "molecule atom point"]:
    """Potential of unit charges on the atoms, next to 0 at padding.

    Squared distances by |r|² + |x|² - 2 r·x, a product of matrices, about the middle of the
    atoms, where that loses no digits that matter.
    """
    n_atoms = np.maximum(atom_mask.sum(axis=1), 1)
    placed = np.clip(positions, -_FAR, _FAR)
    middle = np.where(atom_mask[..., None], placed, 0.0).sum(axis=1) / n_atoms[:, None]
    atoms = (placed - middle[:, None]).astype(dtype)
    # A row (-2 x, |x|², 1) times a column (r, 1, |r|²), so that one product adds all three.
    rows = np.ones((*atoms.shape[:2], 5), dtype)
    rows[..., :3] = -2 * atoms
    rows[..., 3] = np.where(atom_mask, np.einsum("max,max->ma", atoms, atoms), _NOWHERE)
    columns = np.ones((len(grid), 5, grid.shape[1]), dtype)
    points = columns[:, :3]
    np.clip(grid.transpose(0, 2, 1), -_FAR, _FAR, out=points, casting="same_kind")
    points -= middle[:, :, None].astype(dtype)
    np.copyto(points, 0, where=~grid_mask[:, None])  # whatever is there, also no number
    columns[:, 4] = np.where(grid_mask, np.einsum("mxp,mxp->mp", points, points), _NOWHERE)
    squared = rows @ columns
    np.maximum(squared, 1e-6, out=squared)
    return np.divide(BOHR_IN_ANGSTROM, np.sqrt(squared, out=squared), out=squared)
