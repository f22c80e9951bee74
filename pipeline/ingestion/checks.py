"""Checks of each molecule; one that fails is set aside, whole and with the reason."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np
from ase.data import covalent_radii
from jaxtyping import Bool, Float, Int

from pipeline.chemistry.arrays import NO_ELEMENT, Atoms, Grid, finite_rows, usable_points
from pipeline.chemistry.fitted_charges import cached_molecules
from pipeline.chemistry.fitted_multipoles import unexplained_by_multipoles
from pipeline.chemistry.radii import (
    CLOSEST_ATOMS,
    nearest_bonds,
    surface_distance,
    van_der_waals_radii,
)
from pipeline.inference.lengths import (
    INSIDE,
    STRETCHED,
    is_stretched,
)
from pipeline.ingestion.canonical import CanonicalBlock
from pipeline.ingestion.energy_checks import energies
from pipeline.ingestion.field_agreement import field_agreement
from pipeline.ingestion.finding import Finding
from pipeline.ingestion.force_checks import forces
from pipeline.ingestion.moment_checks import UNEXPLAINED, moments
from pipeline.ingestion.proportion_checks import proportions
from store_schema import VARIABLES

# In hartree/e, 1 kcal/mol/e: what surrounds noble gases is less, and no charges make
# it.
_NEGLIGIBLE: Final = 1.5e-3
# Distances within a grid in single precision are right to much better than this.
_ROUNDED: Final = 1.05
_WHOLE_CHARGE: Final = 1e-3
# Partitions integrate numerically; their sums are a few hundredths off at worst.
_MONOPOLE_SUM: Final = 0.1
_CHARGE_OF_ESP: Final = 0.5
# Charges fitted to an ESP of the reference data, or of GFN2-xTB, sum to within 0.016 of the net
# charge; a constant of 0.005 hartree/e in the ESP makes that 0.05.
_SHIFTED: Final = 0.04
# Correlation of monopoles and fitted charges that shows their sign. Their ratio differs by
# threefold between sound molecules, and says nothing.
_CORRELATED: Final = 0.8
# In e, on average; smaller charges show no sign.
_LEAST_CHARGE: Final = 0.05
# Fields correlate at least so much with those of fitted charges, and are so many times as large.
_FIELD: Final = 0.5
_FIELD_SIZE: Final = (0.6, 1.67)
# No molecule holds more electrons beyond its nuclei than these, or than half one per atom.
_MOST_ELECTRONS: Final = 8
_POINTS, _POINTS_A_COLUMN = 256, 4
_PLACES: Final = ("positions", "vdw_surface", "esp")
_POINT: Final = "grid point"


def faults(block: CanonicalBlock) -> list[str]:
    """Checks the molecules of a block.

    Returns:
        For each molecule every reason against it, joined by ``"; "``; empty if it is sound.
    """
    reasons: list[list[str]] = [[] for _ in range(block.n_molecules)]
    checks = (
        *(_atoms, _finite, _counts, _grid, _charges, _monopoles, _potential, _field, _alike),
        *(moments, proportions, forces, energies),
    )
    with np.errstate(invalid="ignore", over="ignore"):  # infinities fail by themselves
        for check in checks:
            for finding in check(block):
                for row in np.flatnonzero(finding.failed):
                    reasons[row].append(finding.reason(int(row)))
    return ["; ".join(found) for found in reasons]


def _atoms(block: CanonicalBlock) -> Iterator[Finding]:
    """Atoms: some, of known elements, at finite places apart from each other."""
    atoms = block.atoms
    yield Finding(atoms.mask.sum(axis=1) == 0, lambda _: "it has no atoms")
    unknown = atoms.numbers >= len(covalent_radii)
    yield Finding(
        np.any(unknown, axis=1),
        lambda row: (
            "an atomic number is negative or not whole"
            if atoms.numbers[row].max() == NO_ELEMENT
            else f"atomic number {int(atoms.numbers[row].max())} is no element"
        ),
    )
    # As they are stored: what float64 can hold, float32 may not.
    placed = block.values["positions"]
    lost = atoms.mask & ~np.isfinite(placed).all(axis=-1)
    yield Finding(
        lost.any(axis=1), lambda row: _some(lost[row].sum(), "atom", "has", "have") + " no position"
    )
    bonds = nearest_bonds(atoms)
    closest = bonds.min(axis=1, initial=np.inf)
    yield Finding(
        closest < CLOSEST_ATOMS,
        lambda row: f"two atoms are {closest[row]:.2f} covalent radii apart",
    )
    if "positions" in block.declared:
        return
    yield Finding(
        _stretched(bonds, atoms),
        lambda row: (
            f"its atoms are {closest[row]:.2f} covalent radii apart: it may be in another unit"
        ),
    )


def _some(count: int | np.integer, thing: str, of_one: str, of_many: str) -> str:
    """Returns how many there are, with the verb that this takes."""
    return f"{count} {thing} {of_one}" if count == 1 else f"{count} {thing}s {of_many}"


def _stretched(
    bonds: Float[np.ndarray, "molecule atom"], atoms: Atoms
) -> Bool[np.ndarray, " molecule"]:
    """Which molecules have all their bonds stretched, among others that are bonded."""
    known = atoms.mask & np.isfinite(bonds)
    shortest = np.where(known, bonds, np.inf).min(axis=1, initial=np.inf)
    longest = np.where(known, bonds, 0.0).max(axis=1, initial=0.0)
    several = known.sum(axis=1) > 2
    bonded = several.any() and np.median(shortest[several]) < STRETCHED
    return several & is_stretched(shortest, longest) & bool(bonded)


def _finite(block: CanonicalBlock) -> Iterator[Finding]:
    """Values are finite where there are any; positions and grids are looked at by themselves."""
    for name, values in block.values.items():
        if name in VARIABLES and values.dtype.kind == "f" and name not in _PLACES:
            infinite = np.isinf(values.reshape(len(values), -1)).any(axis=1)
            yield Finding(
                infinite,
                lambda _, name=name: f"there is an infinite value in its {name.replace('_', ' ')}",  # type: ignore[misc]
            )


def _counts(block: CanonicalBlock) -> Iterator[Finding]:
    """Numbers of atoms and points: as many as the file says, and no more than it holds."""
    n_atoms = block.values["n_atoms"]
    given = block.given_n_atoms
    if given is not None:
        yield Finding(
            (given != n_atoms) & np.isfinite(given),
            lambda row: f"it says {given[row]:g} atoms and has {n_atoms[row]}",
        )
    said, n_grid, width = block.grid.given, block.grid.n_grid, block.grid.width
    if said is not None and width:
        yield Finding(
            (said < 0) | ((n_grid == 0) & (said > 0)),
            lambda row: f"it says {said[row]} grid points and has {n_grid[row]}",
        )
        yield Finding(
            said > width,
            lambda row: f"it says {said[row]} grid points, its file has room for {width}",
        )


def _grid(block: CanonicalBlock) -> Iterator[Finding]:
    """Grid points: finite, and outside the atoms."""
    grid = block.grid
    if "vdw_surface" not in block.values:
        return
    lost = grid.mask & ~finite_rows(grid.points)
    yield Finding(
        lost.any(axis=1), lambda row: _some(lost[row].sum(), _POINT, "has", "have") + " no place"
    )
    if not grid.points.shape[1]:
        return
    inside = np.zeros(block.n_molecules, dtype=np.int64)
    some = np.flatnonzero(_perhaps_inside(block, lost))
    atoms = Atoms(block.atoms.numbers[some], block.atoms.positions[some], block.atoms.mask[some])
    inside[some] = (surface_distance(atoms, grid.points[some]) < INSIDE).sum(axis=1)
    yield Finding(
        inside > 0, lambda row: _some(inside[row], _POINT, "lies", "lie") + " inside the atoms"
    )


def _perhaps_inside(
    block: CanonicalBlock, lost: Bool[np.ndarray, "molecule point"]
) -> Bool[np.ndarray, " molecule"]:
    """Which molecules have a point inside an atom, where their fitted charges do not show it.

    The fit knows the distances of the points it counts, and those are all of most molecules.
    """
    fit, atoms, grid = block.fit, block.atoms, block.grid
    limits = _ROUNDED * INSIDE * np.nan_to_num(van_der_waals_radii(atoms.numbers))
    near = (fit.nearest < limits).any(axis=1)
    unknown = (grid.mask & ~np.isfinite(grid.esp)).any(axis=1) | lost.any(axis=1)
    return near | unknown | np.isnan(fit.residual)


def _charges(block: CanonicalBlock) -> Iterator[Finding]:
    """Net charges are whole."""
    charge = block.values.get("total_charge")
    if charge is not None:
        yield Finding(
            (np.abs(charge - np.rint(charge)) > _WHOLE_CHARGE) | np.isinf(charge),
            lambda row: f"its net charge is {charge[row]:g}",
        )
        nuclear = np.where(block.atoms.mask, block.atoms.numbers, 0).sum(axis=1)
        yield Finding(
            np.abs(charge) > np.maximum(nuclear, 1),
            lambda row: f"its net charge is {charge[row]:g}, of its nuclei {nuclear[row]}",
        )
        n_atoms = block.atoms.mask.sum(axis=1)
        yield Finding(
            -charge > np.maximum(_MOST_ELECTRONS, n_atoms // 2),
            lambda row: (
                f"its net charge would be {charge[row]:g}, as where an ESP lacks the nuclei's part"
            ),
        )


def _monopoles(block: CanonicalBlock) -> Iterator[Finding]:
    """Monopoles sum to the net charge; all zero is a failed partition, not neutral atoms."""
    monopoles = block.values.get("monopoles")
    if monopoles is None:
        return
    plain = np.nan_to_num(monopoles.astype(np.float64))
    several = block.atoms.mask.sum(axis=1) > 1
    known = np.isfinite(monopoles).any(axis=1)
    zero = known & several & ~plain.any(axis=1)
    yield Finding(zero, lambda _: "its monopoles are all zero: the partition failed")
    partly = known & (block.atoms.mask & ~np.isfinite(monopoles)).any(axis=1)
    yield Finding(partly, lambda _: "some of its atoms have no monopole")
    sums = plain.sum(axis=1)
    charge = block.values.get("total_charge", np.full(len(sums), np.nan))
    expected = np.where(np.isfinite(charge), charge, np.rint(sums))
    off = np.abs(sums - expected)
    yield Finding(
        known & ~zero & (off > _MONOPOLE_SUM),
        lambda row: f"its monopoles sum to {sums[row]:.3f}, its charge is {expected[row]:g}",
    )


def _potential(block: CanonicalBlock) -> Iterator[Finding]:
    """The ESP is one that charges on the atoms can make, with the sum the net charge has."""
    if "esp" not in block.values:
        return
    grid, fit = block.grid, block.fit
    some = np.isfinite(grid.esp).any(axis=1)
    lost = some & (grid.mask & ~np.isfinite(grid.esp)).any(axis=1)
    yield Finding(lost, lambda _: "its ESP is missing at some grid points")
    zero = some & ~np.nan_to_num(grid.esp).any(axis=1)
    yield Finding(zero, lambda _: "its ESP is zero everywhere")
    left = _unexplained(block)
    unexplained = left > UNEXPLAINED
    for row in np.flatnonzero(unexplained):
        unexplained[row] = left[row] * _variation(grid, int(row)) > _NEGLIGIBLE
    yield Finding(
        unexplained,
        lambda row: (
            f"charges on its atoms leave {100 * left[row]:.0f} % of its ESP unexplained: "
            "the grid may be in another order or unit"
        ),
    )
    charge = block.values.get("total_charge")
    if charge is not None:
        fitted = fit.charges.sum(axis=1)
        known = np.isfinite(fit.residual) & ~unexplained
        wrong = known & (np.abs(fitted - charge) > _CHARGE_OF_ESP)
        yield Finding(
            wrong,
            lambda row: f"its ESP is that of a charge of {fitted[row]:.2f}, not {charge[row]:g}",
        )
        if "esp" not in block.declared:
            yield Finding(
                known & ~wrong & (np.abs(fitted - charge) > _SHIFTED),
                lambda row: (
                    f"its ESP is that of a charge of {fitted[row]:.3f}, not {charge[row]:g}: "
                    "it may count from another zero"
                ),
            )


def _variation(grid: Grid, row: int) -> float:
    """Root mean square of how far an ESP is from its mean."""
    esp = grid.esp[row, : grid.n_grid[row]].astype(np.float64)
    return float(np.std(esp[np.isfinite(esp)]))


def _field(block: CanonicalBlock) -> Iterator[Finding]:
    """The electric field is there at every point, and is that of charges which explain the ESP."""
    given = block.values.get("electric_field")
    if given is None:
        return
    grid, fit, atoms = block.grid, block.fit, block.atoms
    known = np.isfinite(given).all(axis=-1)
    lost = known.any(axis=1) & (grid.mask & ~known).any(axis=1)
    yield Finding(lost, lambda _: "its electric field is missing at some grid points")
    agreement, size = field_agreement(given, atoms, grid, fit)
    low, high = _FIELD_SIZE
    yield Finding(
        (agreement < _FIELD) | (size < low) | (size > high),
        lambda row: (
            f"its electric field is not that of its ESP (correlation {agreement[row]:.2f}, "
            f"{size[row]:.2g} times the size): it may be in another order, sign or unit"
        ),
    )


def _alike(block: CanonicalBlock) -> Iterator[Finding]:
    """Monopoles have the sign of the charges that explain the ESP."""
    monopoles = block.values.get("monopoles")
    if monopoles is None or {"monopoles", "esp"} & block.declared:
        return
    plain = np.nan_to_num(monopoles.astype(np.float64))
    fitted = block.fit.charges
    own, other, both = (
        np.einsum("ma,ma->m", left, right)
        for left, right in ((plain, plain), (fitted, fitted), (plain, fitted))
    )
    n_atoms = block.atoms.mask.sum(axis=1)
    least = n_atoms * _LEAST_CHARGE**2  # charges of equal atoms are errors
    known = (n_atoms > 1) & np.isfinite(block.fit.residual) & (own > least) & (other > least)
    correlation = np.divide(both, np.sqrt(own * other), out=np.zeros_like(both), where=known)
    yield Finding(
        known & (correlation < -_CORRELATED),
        lambda _: "its monopoles have the opposite sign of the charges that explain its ESP",
    )


def _unexplained(block: CanonicalBlock) -> Float[np.ndarray, " molecule"]:
    """Part of the ESP that no charges, and where it matters no multipoles, explain."""
    left = np.nan_to_num(block.fit.unexplained)
    n_atoms = block.atoms.mask.sum(axis=1)
    for columns, quadrupoles in ((4, False), (10, True)):
        suspicious = left > UNEXPLAINED
        for count in np.unique(n_atoms[suspicious]):
            rows = np.flatnonzero(suspicious & (n_atoms == count))
            _explain(block, left, rows, columns * int(count), quadrupoles)
    return left


def _explain(
    block: CanonicalBlock,
    left: Float[np.ndarray, " molecule"],
    rows: Int[np.ndarray, " row"],
    columns: int,
    quadrupoles: bool,
) -> None:
    """Writes what multipoles leave of molecules of one size, where there are enough points."""
    atoms, grid = block.atoms, block.grid
    count = int(atoms.mask[rows[0]].sum())
    stride = max(1, int(grid.n_grid[rows].min()) // max(_POINTS, _POINTS_A_COLUMN * columns))
    step = cached_molecules(columns * grid.points.shape[1])
    rows = rows[np.argsort(grid.n_grid[rows])]  # little padding in each step
    for some in (rows[start : start + step] for start in range(0, len(rows), step)):
        width = int(grid.n_grid[some[-1]])
        points, esp = grid.points[some, :width], grid.esp[some, :width]
        usable = usable_points(points, esp)
        known = usable[:, ::stride].sum(axis=1) > columns
        if not known.any():
            continue
        left[some[known]] = unexplained_by_multipoles(
            atoms.positions[some[known], :count],
            np.nan_to_num(points[known]),
            usable[known],
            np.nan_to_num(esp[known]),
            stride=stride,
            quadrupoles=quadrupoles,
        )
