"""Charges that explain an ESP: one least-squares problem, and which of its forms is right where.

Charges q minimise |V - T q|² + w |q|², as in Singh & Kollman, J. Comput. Chem. 5 (1984) 129,
with T the potentials of unit charges at the points where the ESP is V.

- Free (`fit_charges`): shows whether grid and atoms belong together. Its relative residual
  depends neither on the unit of the ESP nor on the total charge, which are not known yet.
- With the exact sum (`dcmnet.analysis.reference_levels`): the best that charges on the atoms of
  a molecule can do, which a model is compared with.
- As a change of predicted charges that keeps their sum (`dcmnet.prediction.refine`): what the ESP
  does not determine stays as predicted, as in RESP.

Each sums its normal equations where its data lie; `solve_charges` solves them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from store_schema.units import BOHR_IN_ANGSTROM

# Keeps buried atoms from taking arbitrary charges.
_RIDGE = 1e-6
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
        normal = design @ design.transpose(0, 2, 1)
        right = (design @ target[:, ::stride, None].astype(np.float64))[..., 0]
        fitted = solve_charges(normal, right, placed[1], ridge=_RIDGE)
        if stride > 1:
            design = _potentials(*placed, places, mask, np.float32)
        left = target - (fitted[:, None].astype(design.dtype) @ design)[:, 0]
        norm = np.linalg.norm(target, axis=1)
        with np.errstate(invalid="ignore", divide="ignore"):  # no ESP has no residual
            size = np.where(norm > 0, np.linalg.norm(left, axis=1), np.nan)
            unexplained[some] = size / variation(target, mask)
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


def solve_charges(
    normal: Float[Any, "molecule charge charge"],
    right: Float[Any, "molecule charge"],
    mask: Bool[Any, "molecule charge"],
    *,
    ridge: float,
    total: Float[Any, " molecule"] | None = None,
    known: Bool[Any, " molecule"] | None = None,
) -> Float[Any, "molecule charge"]:
    """Solves normal equations of charges, of NumPy or JAX, in the precision in which they come.

    With N = T'T + w the solution q0 = N⁻¹ T'V moves along u = N⁻¹ 1 until the sum is right,
    q = q0 + u (Q - 1·q0) / (1·u), which is the least-squares solution under that sum.

    Args:
        normal: T'T; rows of padding are 0.
        right: T'V.
        mask: True for charges, False for padding.
        ridge: w over the mean of the diagonal of T'T.
        total: Q; without it the charges are free.
        known: Where Q is known; elsewhere the charges are free. Everywhere if left out.

    Returns:
        Charges, 0 at padding.
    """
    xp = normal.__array_namespace__()
    scale = xp.trace(normal, axis1=1, axis2=2) / xp.maximum(mask.sum(axis=1), 1)
    scale = xp.where(scale > 0, scale, 1.0)
    # Padding gets a diagonal too, so that the matrix is regular and its charge 0.
    diagonal = xp.where(mask, ridge, 1.0) * scale[:, None]
    regular = normal + diagonal[:, :, None] * xp.eye(normal.shape[1])[None]
    if total is None:
        return xp.where(mask, xp.linalg.solve(regular, right[..., None])[..., 0], 0.0)
    known = xp.ones_like(total, dtype=bool) if known is None else known
    sides = xp.stack([right, mask * scale[:, None]], axis=-1)
    charges, along = xp.moveaxis(xp.linalg.solve(regular, sides), -1, 0)
    for _ in range(2):  # the second round takes away the rounding of the first
        lacking = xp.where(known, total - charges.sum(axis=1), 0.0)
        charges = charges + along * (lacking / xp.where(known, along.sum(axis=1), 1.0))[:, None]
    return xp.where(mask, charges, 0.0)


def variation(
    esp: Float[np.ndarray, "molecule point"], mask: Bool[np.ndarray, "molecule point"]
) -> Float[np.ndarray, " molecule"]:
    """Norm of how far each ESP, 0 where it does not count, is from its mean."""
    mean = esp.sum(axis=1) / np.maximum(mask.sum(axis=1), 1)
    size = np.linalg.norm((esp - mean[:, None]) * mask, axis=1)
    return np.maximum(size, _LEAST_VARIATION * np.linalg.norm(esp, axis=1))


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
