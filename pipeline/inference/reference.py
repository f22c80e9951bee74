"""Moments of molecules from what a source brings besides them: what others are held against."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from pipeline.inference.equilibration import equilibrated_charges
from pipeline.inference.lengths import center_of_mass
from pipeline.inference.multipoles import fit_multipoles, moments
from pipeline.structure import Atoms, Grid

_FITTED_MOLECULES = 48
# Relative error of a dipole from fitted multipoles, and from monopoles alone.
ESP_SPREAD, _MONOPOLE_SPREAD = 0.05, 0.2
# Of dipoles from electronegativities: what all molecules share, and what averages out.
_ROUGH_SPREAD, _ROUGH_SPREAD_OF_ONE = 0.08, 0.5
# They are that much too large, as a comparison with PBE0 dipoles showed.
_ROUGH_SCALE = 0.92
# One in so many molecules may disagree with the others.
_ODD = 10


class Reference(NamedTuple):
    """Moments that the ESP (or, without it, something rougher) gives some molecules.

    Attributes:
        rows: Rows of these molecules in the sample.
        charges: Net charges in e.
        centers: Centres of mass in Å.
        dipole: About the origin, in e·Å.
        quadrupole: Traceless, in e·Å².
        residual: What fitted multipoles leave of the ESP; NaN without an ESP.
        spread: Relative error to expect.
        origin: What they come from, for messages.
    """

    rows: np.ndarray
    charges: Float[np.ndarray, " molecule"]
    centers: Float[np.ndarray, "molecule 3"]
    dipole: Float[np.ndarray, "molecule 3"]
    quadrupole: Float[np.ndarray, "molecule 3 3"]
    residual: Float[np.ndarray, " molecule"]
    spread: float
    origin: str


def reference_moments(
    atoms: Atoms, grid: Grid, monopoles: Float[np.ndarray, "molecule atom"] | None
) -> Reference | None:
    """Derives moments from the ESP, or else from monopoles; None without both."""
    usable = np.isfinite(grid.esp) & np.isfinite(grid.points).all(axis=-1)
    rows = np.flatnonzero(usable.sum(axis=1) > 4 * atoms.mask.sum(axis=1))
    found, kept = [], []
    for row in rows[:: max(1, len(rows) // _FITTED_MOLECULES)]:
        real, points = atoms.mask[row], usable[row]
        positions = atoms.positions[row][real]
        if not np.isfinite(positions).all():
            continue
        charges, dipoles, residual = fit_multipoles(
            positions, grid.points[row][points], grid.esp[row][points]
        )
        if residual < 0.5:
            kept.append(row)
            found.append((charges.sum(), *moments(positions, charges, dipoles), residual))
    spread, origin = ESP_SPREAD, "the ESP"
    if not found and monopoles is not None:
        spread, origin = _MONOPOLE_SPREAD, "the monopoles"
        for row in range(len(monopoles)):
            charges = monopoles[row][atoms.mask[row]]
            positions = atoms.positions[row][atoms.mask[row]]
            if np.isfinite(charges).all() and np.any(charges) and np.isfinite(positions).all():
                kept.append(row)
                found.append((charges.sum(), *moments(positions, charges), math.nan))
    if not found:
        return None
    columns = (np.array(column) for column in zip(*found, strict=True))
    sums, dipoles, quadrupoles, residuals = columns
    centers = center_of_mass(atoms)[kept]
    return Reference(np.array(kept), sums, centers, dipoles, quadrupoles, residuals, spread, origin)


def rough_reference(
    atoms: Atoms, charges: Float[np.ndarray, " molecule"] | None
) -> Reference | None:
    """Derives dipoles from electronegativities; None where that is not possible.

    Args:
        atoms: Atoms, in Å.
        charges: Net charges in e, where the file has them; else molecules count as neutral.
    """
    rows, dipoles = [], []
    total = np.zeros(len(atoms.mask)) if charges is None else charges
    for row in np.flatnonzero(atoms.mask.sum(axis=1) > 1):
        numbers, positions = atoms.numbers[row][atoms.mask[row]], atoms.positions[row]
        positions = positions[atoms.mask[row]]
        if not (np.isfinite(positions).all() and math.isfinite(total[row])):
            continue
        fitted = equilibrated_charges(numbers, positions, float(total[row]))
        if fitted is not None:
            rows.append(int(row))
            dipoles.append(_ROUGH_SCALE * fitted @ positions)
    if not rows:
        return None
    # Errors are much the same in molecules of the same atoms, and do not average out.
    distinct = len({tuple(np.sort(atoms.numbers[row])) for row in rows})
    return Reference(
        np.array(rows),
        total[rows],
        center_of_mass(atoms)[rows],
        np.array(dipoles),
        np.full((len(rows), 3, 3), np.nan),
        np.full(len(rows), np.nan),
        _ROUGH_SPREAD + _ROUGH_SPREAD_OF_ONE / math.sqrt(distinct),
        "the electronegativity of the atoms",
    )


class Line(NamedTuple):
    """How values lie along others.

    Attributes:
        factor: Takes them to the others; NaN where there is nothing.
        alignment: Correlation of values that are zero on average.
    """

    factor: float
    alignment: float


def line(given: np.ndarray, expected: np.ndarray) -> Line:
    """Fits the factor from one to the other, molecules first; a few odd ones do not count.

    The weighted median of the molecules' own factors tells which tenth agrees least.
    """
    if not given.size:
        return Line(math.nan, 0.0)
    given, expected = given.reshape(len(given), -1), expected.reshape(len(given), -1)
    with np.errstate(over="ignore"):
        own = (given * given).sum(axis=1)
    there = (own > 0) & np.isfinite(own)
    if not there.any():
        return Line(math.nan, 0.0)
    given, expected, own = given[there], expected[there], own[there]
    factors = (given * expected).sum(axis=1) / own
    order = np.argsort(factors)
    weights = np.sqrt(own[order]).cumsum()
    middle = factors[order][np.searchsorted(weights, weights[-1] / 2)]
    off = np.linalg.norm(given * middle - expected, axis=1)
    best = np.argsort(off)[: len(off) - len(off) // _ODD]
    given, expected = given[best], expected[best]
    product = float((given * expected).sum())
    norm = float(np.linalg.norm(given) * np.linalg.norm(expected))
    return Line(product / float((given * given).sum()), product / norm if norm > 0 else 0.0)
