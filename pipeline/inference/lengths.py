"""Units of positions and grids: bonds are as long as covalent radii, grids lie outside atoms."""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from ase.data import atomic_masses, covalent_radii, vdw_radii
from jaxtyping import Float, Int

from pipeline.inference.hypothesis import Hypothesis, deviation, log_deviation, unsettled
from pipeline.inference.multipoles import fit_charges
from pipeline.structure import Atoms, Grid
from store_schema.units import FACTORS

# Of the sum of their covalent radii; no two atoms are closer.
CLOSEST_ATOMS = 0.5
_BOND_SPREAD = 0.08
# Surfaces in use lie at 1 to 3 van der Waals radii.
_SURFACE, _SURFACE_SPREAD = 1.7, 0.25
# A wrong unit of the grid multiplies what fitted charges leave of the ESP; how much they
# leave of a single molecule's in the right one says little.
_RESIDUAL_SPREAD, _RESIDUAL_SPREAD_OF_ONE = 0.25, 0.6
_FITTED_MOLECULES = 24


def radius_of(
    table: Float[np.ndarray, " element"], numbers: Int[np.ndarray, "*shape"]
) -> Float[np.ndarray, "*shape"]:
    """Returns tabulated radii in Å, NaN at padding and for what is no element."""
    known = (numbers > 0) & (numbers < len(table))
    return np.where(known, table[np.where(known, numbers, 0)], np.nan)


def van_der_waals_radii(numbers: Int[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
    """Returns van der Waals radii in Å (ASE); covalent ones plus 0.8 Å where it has none."""
    radii = radius_of(vdw_radii, numbers)
    return np.where(np.isnan(radii), radius_of(covalent_radii, numbers) + 0.8, radii)


# By atomic number, angstrom; 0 at padding, so that no point is near it.
VDW_RADII: Final = np.nan_to_num(van_der_waals_radii(np.arange(len(covalent_radii))))


def nearest_bonds(atoms: Atoms) -> Float[np.ndarray, "molecule atom"]:
    """Returns each atom's least distance to another over the sum of covalent radii."""
    radii = radius_of(covalent_radii, atoms.numbers)
    difference = atoms.positions[:, :, None] - atoms.positions[:, None, :]
    distance = np.linalg.norm(difference, axis=-1)
    diagonal = range(distance.shape[1])
    distance[:, diagonal, diagonal] = np.nan
    ratio = distance / (radii[:, :, None] + radii[:, None, :])
    return np.nan_to_num(ratio, nan=np.inf).min(axis=2, initial=np.inf)


def position_units(atoms: Atoms) -> list[Hypothesis]:
    """Weighs the units of positions by the lengths of bonds."""
    ratios = nearest_bonds(atoms)
    ratios = ratios[np.isfinite(ratios) & (ratios > 0)]
    units = [Hypothesis("positions", unit, 0.0, "") for unit in FACTORS["length"]]
    if not ratios.size:
        return unsettled(units, "no molecule has a bond")
    ratio = float(np.median(ratios))
    return [
        Hypothesis(
            "positions",
            unit,
            log_deviation(ratio * factor, 1.0, _BOND_SPREAD),
            f"nearest atoms are {ratio * factor:.2f} times their covalent radii apart",
        )
        for unit, factor in FACTORS["length"].items()
    ]


def surface_distance(
    atoms: Atoms, points: Float[np.ndarray, "molecule point 3"]
) -> Float[np.ndarray, "molecule point"]:
    """Returns each point's distance to the nearest atom, in van der Waals radii; NaN at padding."""
    radii = van_der_waals_radii(atoms.numbers)
    nearest = np.full(points.shape[:2], np.inf)
    for atom in range(atoms.positions.shape[1]):
        distance = np.sqrt(
            sum(
                (points[:, :, axis] - atoms.positions[:, atom, None, axis]) ** 2
                for axis in range(3)
            )
        )
        nearest = np.fmin(nearest, distance / radii[:, atom, None])
    return np.where(np.isfinite(points).all(axis=-1) & np.isfinite(nearest), nearest, np.nan)


def grid_units(atoms: Atoms, grid: Grid) -> list[Hypothesis]:
    """Weighs the units of a grid, around atoms in Å, by its distance and by the ESP on it."""
    units = [Hypothesis("vdw_surface", unit, 0.0, "") for unit in FACTORS["length"]]
    if not (grid.n_grid > 0).any():
        return unsettled(units, "no molecule has a grid")
    measured = _measured(atoms, grid)
    n = min(int((grid.n_grid > 0).sum()), _FITTED_MOLECULES)
    spread = _RESIDUAL_SPREAD + _RESIDUAL_SPREAD_OF_ONE / math.sqrt(n)
    least = min(residual for _, residual in measured.values())
    return [
        Hypothesis(
            "vdw_surface",
            unit,
            log_deviation(distance, _SURFACE, _SURFACE_SPREAD)
            + log_deviation(max(residual, 1e-6), max(least, 1e-6), spread),
            f"the grid lies {distance:.2f} van der Waals radii from the atoms and charges on "
            f"them leave {100 * residual:.0f} % of the ESP",
        )
        for unit, (distance, residual) in measured.items()
    ]


def unexplained_on(atoms: Atoms, grid: Grid) -> float:
    """Returns what charges on the atoms leave of the ESP on a grid, in the unit that fits best."""
    if not (grid.n_grid > 0).any():
        return 1.0
    return min(residual for _, residual in _measured(atoms, grid).values())


def _measured(atoms: Atoms, grid: Grid) -> dict[str, tuple[float, float]]:
    """Distance from the atoms, and what charges leave of the ESP, by the unit of the grid."""
    rows = np.flatnonzero(grid.n_grid > 0)
    rows = rows[:: -(-len(rows) // _FITTED_MOLECULES)]
    some = Atoms(atoms.numbers[rows], atoms.positions[rows], atoms.mask[rows])
    points, esp, mask = grid.points[rows], grid.esp[rows], grid.mask[rows]
    measured = {}
    for unit, factor in FACTORS["length"].items():
        distances = surface_distance(some, points * factor)
        known_distances = distances[np.isfinite(distances)]
        distance = float(np.median(known_distances)) if known_distances.size else np.inf
        placed = np.nan_to_num(some.positions)
        usable = mask & np.isfinite(esp) & np.isfinite(points).all(axis=-1)
        fit = fit_charges(placed, some.mask, np.nan_to_num(points * factor), usable, esp)
        known = fit.residual[np.isfinite(fit.residual)]
        measured[unit] = distance, float(np.median(known)) if known.size else 1.0
    return measured


def center_of_mass(atoms: Atoms) -> Float[np.ndarray, "molecule 3"]:
    """Returns the centre of mass of the atoms, in their unit."""
    masses = radius_of(atomic_masses, atoms.numbers)
    masses = np.where(np.isfinite(masses), masses, 0.0)
    total = np.maximum(masses.sum(axis=1), 1e-9)
    return np.einsum("ma,max->mx", masses, np.nan_to_num(atoms.positions)) / total[:, None]


def center_units(atoms: Atoms, centers: Float[np.ndarray, "molecule 3"]) -> list[Hypothesis]:
    """Weighs the units of centres of mass against that of the atoms, in Å."""
    expected = center_of_mass(atoms)
    known = np.isfinite(centers).all(axis=1)
    scale = float(np.sqrt(np.mean(expected[known] ** 2))) if known.any() else 0.0
    hypotheses = []
    for unit, factor in FACTORS["length"].items():
        off = float(np.sqrt(np.mean((centers[known] * factor - expected[known]) ** 2)))
        hypotheses.append(
            Hypothesis(
                "center_of_mass",
                unit,
                deviation(off, 0.0, 0.002 + 0.02 * scale) if known.any() else 0.0,
                f"it is {off:.3f} Å from the centre of mass of the positions",
            )
        )
    return hypotheses
