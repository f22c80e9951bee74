"""ESP, charges, dipoles and quadrupoles: what they must be to agree with each other."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from pipeline.inference.hypothesis import Hypothesis, deviation, log_deviation, unsettled
from pipeline.inference.multipoles import fit_charges, fit_multipoles, moments, traceless
from pipeline.structure import Atoms, Grid
from store_schema.semantics import QUADRUPOLE_COMPONENTS, SEMANTICS
from store_schema.units import FACTORS

_FITTED_MOLECULES = 48
# Charges on atoms are some tenths of e, within a factor of a few.
_TYPICAL_CHARGE, _CHARGE_SPREAD = 0.3, 0.8
_AGAINST_CHARGES = 0.3
# Relative error of a moment from fitted multipoles, and from monopoles alone.
_ESP_SPREAD, _MONOPOLE_SPREAD = 0.05, 0.2
_ALIGNMENT_SPREAD = 0.08


class Reference(NamedTuple):
    """Moments that the ESP (or, without it, monopoles) gives some molecules.

    Attributes:
        rows: Rows of these molecules in the sample.
        charges: Sum of the fitted charges in e.
        dipole: About the origin, in e·Å.
        quadrupole: Traceless, in e·Å².
        spread: Relative error to expect.
        origin: What they come from, for messages.
    """

    rows: np.ndarray
    charges: Float[np.ndarray, " molecule"]
    dipole: Float[np.ndarray, "molecule 3"]
    quadrupole: Float[np.ndarray, "molecule 3 3"]
    spread: float
    origin: str


def esp_units(
    atoms: Atoms,
    grid: Grid,
    monopoles: Float[np.ndarray, "molecule atom"] | None,
    charges: Float[np.ndarray, " molecule"] | None,
) -> list[Hypothesis]:
    """Weighs the units of an ESP by the charges on the atoms that explain it.

    Args:
        atoms: Atoms, in Å.
        grid: Grid in Å, ESP in the file's unit.
        monopoles: Atomic charges in e, where the file has them.
        charges: Net charges in e, where the file has them.
    """
    units = [Hypothesis("esp", unit, 0.0, "") for unit in FACTORS["potential"]]
    usable = np.isfinite(grid.esp) & np.isfinite(grid.points).all(axis=-1)
    rows = np.flatnonzero(usable.any(axis=1))[:_FITTED_MOLECULES]
    if not rows.size:
        return unsettled(units, "there is no grid to explain it on")
    fit = fit_charges(
        np.nan_to_num(atoms.positions[rows]),
        atoms.mask[rows],
        np.nan_to_num(grid.points[rows]),
        usable[rows],
        np.nan_to_num(grid.esp[rows]),
    )
    fitted, mask = fit.charges, atoms.mask[rows]
    size = float(np.sqrt(np.mean(fitted[mask] ** 2)))
    tests = [(size, _TYPICAL_CHARGE, _CHARGE_SPREAD)]
    if monopoles is not None:
        slope = _slope(np.nan_to_num(monopoles[rows])[mask], fitted[mask])
        tests += [(slope, 1.0, _AGAINST_CHARGES)] if slope > 0 else []
    if charges is not None:
        slope = _slope(np.nan_to_num(charges[rows]), fitted.sum(axis=1))
        tests += [(slope, 1.0, _AGAINST_CHARGES)] if slope > 0 else []
    return [
        Hypothesis(
            "esp",
            unit,
            sum(log_deviation(value * factor, *expected) for value, *expected in tests),
            f"the charges on the atoms that explain it are {size * factor:.2g} e in size"
            + (f" and {tests[1][0] * factor:.2g} times those in the file" if tests[1:] else ""),
        )
        for unit, factor in FACTORS["potential"].items()
    ]


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
            found.append((charges.sum(), *moments(positions, charges, dipoles)))
    spread, origin = _ESP_SPREAD, "the ESP"
    if not found and monopoles is not None:
        spread, origin = _MONOPOLE_SPREAD, "the monopoles"
        for row in range(len(monopoles)):
            charges = monopoles[row][atoms.mask[row]]
            positions = atoms.positions[row][atoms.mask[row]]
            if np.isfinite(charges).all() and np.any(charges) and np.isfinite(positions).all():
                kept.append(row)
                found.append((charges.sum(), *moments(positions, charges)))
    if not found:
        return None
    sums, dipoles, quadrupoles = (np.array(column) for column in zip(*found, strict=True))
    return Reference(np.array(kept), sums, dipoles, quadrupoles, spread, origin)


def moment_hypotheses(
    semantics: str, values: np.ndarray, reference: Reference | None
) -> list[Hypothesis]:
    """Weighs the units of molecular dipoles, their magnitudes, or quadrupoles.

    Args:
        semantics: What the values are taken to be.
        values: As in the file, molecules of the sample first.
        reference: What they should be.
    """
    quantity = SEMANTICS[semantics].quantity
    units = [Hypothesis(semantics, unit, 0.0, "") for unit in FACTORS[quantity]]
    if reference is None:
        return unsettled(units, "there is no ESP and no monopoles to hold it against")
    values = values[reference.rows].astype(np.float64)
    given: np.ndarray
    expected: np.ndarray
    if semantics == "dipole_magnitude":
        given, expected = values.reshape(-1), np.linalg.norm(reference.dipole, axis=1)
    elif semantics == "molecular_dipole_vector":
        given, expected = values.reshape(-1, 3), reference.dipole
    else:
        given, expected = traceless(quadrupole_tensor(values)), reference.quadrupole
    known = np.isfinite(given.reshape(len(given), -1)).all(axis=1)
    given, expected = given[known].ravel(), expected[known].ravel()
    slope, alignment = _slope(given, expected), _cosine(given, expected)
    if not math.isfinite(slope):
        return unsettled(units, "it is zero or missing in every molecule that was looked at")
    spread = reference.spread * (1.0 if quantity == "dipole" else 1.5)
    return [
        Hypothesis(
            semantics,
            unit,
            log_deviation(factor / slope, 1.0, spread)
            + deviation(alignment, 1.0, _ALIGNMENT_SPREAD * spread / _ESP_SPREAD),
            f"it is {factor / slope:.2f} times what {reference.origin} gives "
            f"(correlation {alignment:.2f})",
        )
        for unit, factor in FACTORS[quantity].items()
    ]


def charge_hypotheses(
    values: np.ndarray, atoms: Atoms, reference: Reference | None
) -> list[Hypothesis]:
    """Weighs whether values can be charges of the atoms: whole sums, nothing at padding."""
    flat = np.nan_to_num(values.reshape(len(values), -1).astype(np.float64))
    sums = np.nansum(atoms.per_atom(flat), axis=1)
    stray = float(np.abs(flat.sum(axis=1) - sums).max(initial=0.0))
    # All-zero rows are failed partitions and say nothing.
    rows = np.arange(len(flat)) if reference is None else reference.rows
    expected = np.rint(sums if reference is None else reference.charges)
    expected = expected if reference is not None else expected[rows]
    told = flat[rows].any(axis=1)
    off = float(np.sqrt(np.mean((sums[rows] - expected)[told] ** 2))) if told.any() else 0.0
    return [
        Hypothesis(
            "atomic_charges",
            "e",
            deviation(off, 0.0, 0.1) + deviation(stray, 0.0, 0.1),
            f"read as charges of the atoms, their sums are {off:.2g} e from the net charge",
        )
    ]


def total_charge_hypotheses(values: np.ndarray, reference: Reference | None) -> list[Hypothesis]:
    """Weighs whether values can be net charges: whole, and what the ESP says."""
    values = values.reshape(len(values)).astype(np.float64)
    known = np.isfinite(values)
    off = (
        float(np.sqrt(np.mean((values[known] - np.rint(values[known])) ** 2))) if known.any() else 0
    )
    evidence = f"they are {off:.2g} from whole numbers"
    misfit = deviation(off, 0.0, 0.02)
    if reference is not None:
        differences = np.abs(values[reference.rows] - reference.charges)
        apart = float(np.nanmedian(differences))
        misfit += deviation(apart, 0.0, 0.15)
        evidence += f" and {apart:.2g} e from what {reference.origin} gives"
    return [Hypothesis("total_charge", "e", misfit, evidence)]


def atomic_dipole_hypotheses(
    values: np.ndarray,
    atoms: Atoms,
    reference: Reference | None,
    monopoles: Float[np.ndarray, "molecule atom"] | None,
) -> list[Hypothesis]:
    """Weighs the units of atomic dipoles: with the monopoles they make the molecule's."""
    units = [Hypothesis("atomic_dipoles", unit, 0.0, "") for unit in FACTORS["dipole"]]
    if reference is None or monopoles is None or reference.origin != "the ESP":
        return unsettled(units, "that takes an ESP and monopoles to hold them against")
    rows = reference.rows
    charges = np.nan_to_num(monopoles[rows])
    placed = np.nan_to_num(atoms.positions[rows])
    left = reference.dipole - np.einsum("ma,max->mx", charges, placed)
    given = np.nansum(atoms.per_atom(values)[rows], axis=1)
    slope, alignment = _slope(given.ravel(), left.ravel()), _cosine(given.ravel(), left.ravel())
    if not slope > 0:
        return unsettled(units, "their sum does not point where the ESP says")
    return [
        Hypothesis(
            "atomic_dipoles",
            unit,
            log_deviation(factor / slope, 1.0, 0.15) + deviation(alignment, 1.0, 0.2),
            f"with the monopoles they leave {factor / slope:.2f} times the molecular dipole "
            f"(correlation {alignment:.2f})",
        )
        for unit, factor in FACTORS["dipole"].items()
    ]


def quadrupole_tensor(values: np.ndarray) -> Float[np.ndarray, "molecule 3 3"]:
    """Returns the tensors of quadrupoles that come as 6 or 9 components."""
    flat = values.reshape(len(values), -1).astype(np.float64)
    if flat.shape[1] == 9:
        return flat.reshape(-1, 3, 3)
    tensor = np.empty((len(flat), 3, 3))
    for column, (i, j) in enumerate(QUADRUPOLE_COMPONENTS):
        tensor[:, i, j] = tensor[:, j, i] = flat[:, column]
    return tensor


def _slope(given: np.ndarray, expected: np.ndarray) -> float:
    """Factor that takes ``given`` to ``expected``; NaN where there is nothing."""
    square = float((given * given).sum())
    return float((given * expected).sum()) / square if square > 0 else math.nan


def _cosine(given: np.ndarray, expected: np.ndarray) -> float:
    norm = float(np.linalg.norm(given) * np.linalg.norm(expected))
    return float((given * expected).sum()) / norm if norm > 0 else 0.0
