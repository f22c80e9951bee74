"""ESP, charges and dipoles: what they must be to agree with each other."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from jaxtyping import Float

from pipeline.inference.hypothesis import NO_FIT, Hypothesis, deviation, log_deviation, unsettled
from pipeline.inference.multipoles import fit_charges
from pipeline.inference.reference import ESP_SPREAD, Reference, line
from pipeline.structure import Atoms, Grid
from store_schema.units import FACTORS

_FITTED_MOLECULES = 48
# Charges on atoms are some tenths of e, within a factor of a few.
_TYPICAL_CHARGE, _CHARGE_SPREAD = 0.3, 0.8
# Where charges leave more of the ESP, as around N2, their size says nothing of its unit.
_TOLD = 0.5
_AGAINST_CHARGES = 0.3
# Sums of an ion's charges, over their size, are above this.
_ION = 0.3
_ALIGNMENT_SPREAD = 0.08
# Below, a rough reference says nothing, however well a ratio fits a unit.
_LEAST_ALIGNMENT = 0.6
# In e·Å; less does not tell one point that dipoles are about from another.
_MOVED, _ESP_DIPOLE = 0.03, 0.01
_NEARLY_WHOLE = 0.1
# Dipoles about the centre of mass are rarer, which matters where there is no ESP to tell.
_SELDOM, _SELDOM_ROUGHLY = 1.0, 3.0
_ALL_ZERO = "it is zero or missing in every molecule that was looked at"


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
    rows = np.flatnonzero(usable.any(axis=1))
    rows = rows[:: max(1, -(-len(rows) // _FITTED_MOLECULES))]
    if not rows.size:
        return unsettled(units, "there is no grid to explain it on")
    fit = fit_charges(
        np.nan_to_num(atoms.positions[rows]),
        atoms.mask[rows],
        np.nan_to_num(grid.points[rows]),
        usable[rows],
        np.nan_to_num(grid.esp[rows]),
    )
    told = fit.residual < _TOLD
    if not told.any():
        return unsettled(units, "charges on the atoms do not explain it in any molecule")
    rows, fitted, mask = rows[told], fit.charges[told], atoms.mask[rows[told]]
    sizes = np.sqrt((fitted**2).sum(axis=1) / np.maximum(mask.sum(axis=1), 1))
    size = float(np.median(sizes))
    tests = [(size, _TYPICAL_CHARGE, _CHARGE_SPREAD)]
    if monopoles is not None:
        ratio, _ = line(np.nan_to_num(monopoles[rows]), fitted)
        tests += [(ratio, 1.0, _AGAINST_CHARGES)] if ratio > 0 else []
    if charges is not None:
        sums = fitted.sum(axis=1)
        ratio, _ = line(np.nan_to_num(charges[rows]), sums)
        # Sums of neutral molecules are rounding, and speak of wrong charges, not of the unit.
        ions = float(np.median(np.abs(sums))) > _ION * size
        tests += [(ratio, 1.0, _AGAINST_CHARGES)] if ions and ratio > 0 else []
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


def dipole_hypotheses(
    semantics: str, values: np.ndarray, reference: Reference | None
) -> list[Hypothesis]:
    """Weighs the units of molecular dipoles or their magnitudes.

    Dipoles of ions depend on the point they are about: the origin, or the centre of mass.

    Args:
        semantics: What the values are taken to be.
        values: As in the file, molecules of the sample first.
        reference: What they should be.
    """
    units = [Hypothesis(semantics, unit, 0.0, "") for unit in FACTORS["dipole"]]
    if reference is None:
        return unsettled(units, "there is nothing to hold it against")
    values = values[reference.rows].astype(np.float64)
    if semantics == "dipole_magnitude":
        sizes = np.linalg.norm(reference.dipole, axis=1)
        found = _against(semantics, values.reshape(-1), sizes, reference)
        return found or unsettled(units, _ALL_ZERO)
    given = values.reshape(-1, 3)
    found = _against(semantics, given, reference.dipole, reference)
    moved = _whole(reference.charges)[:, None] * reference.centers
    wider = reference.spread / ESP_SPREAD
    seldom = _SELDOM if wider == 1 else _SELDOM_ROUGHLY
    if np.sqrt(np.mean(moved**2)) > _MOVED * wider:
        found = [
            replace(
                h,
                misfit=h.misfit + _apart(given * h.factor, expected, reference) + prior,
                about_center=about_center,
                evidence=("about the centre of mass " if about_center else "") + h.evidence,
            )
            for about_center, expected, prior in (
                (False, reference.dipole, 0.0),
                (True, reference.dipole - moved, seldom),
            )
            for h in _against(semantics, given, expected, reference)
        ]
    return found or unsettled(units, _ALL_ZERO)


def _whole(charges: Float[np.ndarray, " molecule"]) -> Float[np.ndarray, " molecule"]:
    """Net charges, 0 where they are not near a whole number."""
    return np.where(np.abs(charges - np.rint(charges)) < _NEARLY_WHOLE, np.rint(charges), 0.0)


def _apart(given: np.ndarray, expected: np.ndarray, reference: Reference) -> float:
    """Misfit of dipoles to those of the ESP, in e·Å; 0 where there is but a rough reference."""
    if reference.spread > ESP_SPREAD:
        return 0.0
    ions = np.abs(_whole(reference.charges)) > 0
    off = float(np.nanmedian(np.linalg.norm((given - expected)[ions], axis=1)))
    return min(deviation(off, 0.0, _ESP_DIPOLE), NO_FIT)


def _against(
    semantics: str, given: np.ndarray, expected: np.ndarray, reference: Reference
) -> list[Hypothesis]:
    """Weighs the units of dipoles that should be ``expected``, in e·Å; none if all are zero."""
    known = np.isfinite(given.reshape(len(given), -1)).all(axis=1)
    ratio, alignment = line(given[known], expected[known])
    if not math.isfinite(ratio) or not ratio:
        return []
    spread = reference.spread
    if spread > ESP_SPREAD and alignment < _LEAST_ALIGNMENT:
        units = [Hypothesis(semantics, unit, 0.0, "") for unit in FACTORS["dipole"]]
        reason = f"{reference.origin} is too rough to tell (correlation {alignment:.2f})"
        return unsettled(units, reason)
    return [
        Hypothesis(
            semantics,
            unit,
            log_deviation(factor / ratio, 1.0, spread)
            + deviation(alignment, 1.0, _ALIGNMENT_SPREAD * min(spread / ESP_SPREAD, 2.0)),
            f"it is {factor / ratio:.2f} times what {reference.origin} gives "
            f"(correlation {alignment:.2f})",
        )
        for unit, factor in FACTORS["dipole"].items()
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
    ratio, alignment = line(given, left)
    if not ratio > 0:
        return unsettled(units, "their sum does not point where the ESP says")
    return [
        Hypothesis(
            "atomic_dipoles",
            unit,
            log_deviation(factor / ratio, 1.0, 0.15) + deviation(alignment, 1.0, 0.2),
            f"with the monopoles they leave {factor / ratio:.2f} times the molecular dipole "
            f"(correlation {alignment:.2f})",
        )
        for unit, factor in FACTORS["dipole"].items()
    ]
