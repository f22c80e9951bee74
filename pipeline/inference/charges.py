"""Charges: what they must be to agree with the ESP, or with rougher knowledge."""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float

from pipeline.chemistry.arrays import Atoms, numeric
from pipeline.inference.equilibration import equilibrated_charges
from pipeline.inference.hypothesis import (
    CONTRADICTED,
    Curve,
    Evidence,
    Hypothesis,
    curve,
    deviation,
    weigh,
)
from pipeline.inference.potential import Fitted, WholeSums
from pipeline.inference.reference import Reference, line, species

# Below, what charges are held against says nothing of them.
_LEAST_ALIGNMENT = 0.6
# Calibrated on the reference data (docs/inference.md): MBIS monopoles over charges fitted to
# the ESP, and over those from electronegativities. Other partitions differ by more.
_ESP_SCALE, _ESP_SPREAD, _ESP_SPREAD_OF_ONE = 1.05, 0.08, 0.25
_EEQ_SCALE, _EEQ_SPREAD, _EEQ_SPREAD_OF_ONE = 1.55, 0.12, 0.3
_OTHER_PARTITION, _OTHER_PARTITION_SPREAD = 0.12, 0.55
# In e: smaller ones are mostly errors. How far charges are from following others of their kind.
_LEAST_CHARGE, _UNLIKE, _UNLIKE_OF_ONE = 0.01, 0.08, 0.3
# How often charges are of no unit, as those of some partitions are; of few species without an
# ESP, what they are held against says little.
_SCALED, _SCALED_OF_ONE = 0.05, 0.5
# Charges of atoms are of this size, in e, within a factor of a few.
_TYPICAL, _SIZE_SPREAD, _LEAST_SIZE = 0.3, 1.5, 0.1
# In e: sums of charges are this near to whole numbers, and their size says if they are in C.
_WHOLE, _TINY = 0.1, 1e-12
# Sums of an ion's charges, over their size, are above this. Fewer ions than these, or than one
# in so many molecules, may be mistakes.
_ION, _LEAST_ION, _FEW_IONS, _ODD = 1.0, 0.5, 2, 10


def charge_hypotheses(
    values: np.ndarray,
    atoms: Atoms,
    reference: Reference | None = None,
    fitted: Fitted | None = None,
) -> list[Hypothesis]:
    """Weighs whether values can be charges of the atoms, and their unit and sign.

    Their sums are whole, there is nothing at padding, and they are like the charges that explain
    the ESP, or else like those of the electronegativities.

    Args:
        values: As in the file.
        atoms: Atoms, in Å.
        reference: Net charges, where they are known better.
        fitted: Charges that explain the ESP, in e.
    """
    flat = np.nan_to_num(values.reshape(len(values), -1).astype(np.float64))
    placed = np.nan_to_num(atoms.per_atom(flat))
    factor = 1.0 if np.abs(flat).max(initial=0.0) > _TINY else 1 / 1.602176634e-19
    sums = factor * placed.sum(axis=1)
    stray = float(np.abs(factor * flat.sum(axis=1) - sums).max(initial=0.0))
    # All-zero rows are failed partitions and say nothing.
    rows = np.arange(len(flat)) if reference is None else reference.rows
    expected = np.rint(sums[rows]) if reference is None else np.rint(reference.charges)
    there = flat[rows].any(axis=1)
    apart = np.abs(np.abs(sums[rows]) - np.abs(expected))[there]  # the sign is seen by itself
    off = float(np.median(apart)) if there.any() else 0.0
    evidence, what, unlike = _like_others(placed, atoms, fitted)
    n = species(atoms, rows[there].tolist())
    rough = fitted is None and what is not None
    real = placed[atoms.mask]
    size = float(np.sqrt(np.mean(real**2))) if real.any() else _TYPICAL
    if size > _TINY:  # those of equal atoms are small in any unit
        size = max(size, _LEAST_SIZE)
    sizes = np.sqrt((placed**2).sum(axis=1) / np.maximum(atoms.mask.sum(axis=1), 1))
    ions = np.abs(sums) > np.maximum(_ION * factor * sizes, _LEAST_ION)
    shown = reference is not None and reference.is_sharp
    if shown and np.array_equal(ions[rows], np.abs(expected) > _LEAST_ION):
        least = 0  # the ESP has the same ions
    else:
        least = max(_FEW_IONS, len(ions) // _ODD)
    if ions.sum() > least:
        whole = np.abs(sums[ions]) / factor
        evidence = [*evidence, WholeSums(whole, -math.log(float(np.median(whole))), _WHOLE)]
    return weigh(
        "atomic_charges",
        [*evidence, Curve(math.log(_TYPICAL / size), _SIZE_SPREAD, sign=0)],
        lambda f: (
            f"read as charges of the atoms, their sums are {off:.2g} e from the net charge"
            + (f" and they are {f / what[1]:.3g} times {what[0]}" if what else "")
        ),
        extra=deviation(off, 0.0, _WHOLE) + deviation(stray, 0.0, _WHOLE) + unlike,
        another=max(_SCALED, _SCALED_OF_ONE / n) if rough else _SCALED,
    )


def _like_others(
    values: Float[np.ndarray, "molecule atom"], atoms: Atoms, fitted: Fitted | None
) -> tuple[list[Evidence], tuple[str, float] | None, float]:
    """Holds charges against those that are fitted, or of the electronegativities.

    Returns:
        The evidence, what it is about and the ratio, and the misfit of charges that are unlike.
    """
    if fitted is not None:
        rows, others = fitted.rows, fitted.charges
        scale, spread, spread_of_one = _ESP_SCALE, _ESP_SPREAD, _ESP_SPREAD_OF_ONE
        name = "the charges that explain the ESP"
    else:
        rows, others = _equilibrated(values, atoms)
        scale, spread, spread_of_one = _EEQ_SCALE, _EEQ_SPREAD, _EEQ_SPREAD_OF_ONE
        name = "those of the electronegativities"
    polar = np.abs(others).max(axis=1, initial=0.0) > _LEAST_CHARGE
    if not polar.any():
        return [], None, 0.0
    rows, others = rows[polar], others[polar]
    ratio, alignment = line(values[rows], others)
    if not math.isfinite(ratio):
        return [], None, 0.0
    n = species(atoms, rows.tolist())
    unlike = deviation(abs(alignment), 1.0, max(_UNLIKE, _UNLIKE_OF_ONE / math.sqrt(n)))
    if abs(alignment) < _LEAST_ALIGNMENT:
        return [], None, unlike
    width = math.hypot(spread, spread_of_one / math.sqrt(n))
    evidence = curve(scale * ratio, width, _OTHER_PARTITION, _OTHER_PARTITION_SPREAD)
    return [evidence], (name, ratio), unlike


def _equilibrated(
    values: Float[np.ndarray, "molecule atom"], atoms: Atoms
) -> tuple[np.ndarray, np.ndarray]:
    """Charges from electronegativities, with the net charge that the values have."""
    rows, charges = [], np.zeros(values.shape)
    for row in np.flatnonzero(atoms.mask.sum(axis=1) > 1).tolist():
        real = atoms.mask[row]
        net = float(np.rint(values[row].sum()))
        found = equilibrated_charges(atoms.numbers[row][real], atoms.positions[row][real], net)
        if found is not None and np.isfinite(found).all():
            charges[row, : int(real.sum())] = found
            rows.append(row)
    return np.array(rows, np.int64), charges[rows]


def total_charge_hypotheses(values: np.ndarray, reference: Reference | None) -> list[Hypothesis]:
    """Weighs whether values can be net charges: whole, and what the ESP says."""
    values, is_text = numeric(values.reshape(len(values))), values.dtype.kind in "US"
    known = np.isfinite(values)
    if is_text and not known.all():
        return [Hypothesis("total_charge", "e", CONTRADICTED, "some are no numbers")]
    off = (
        float(np.sqrt(np.mean((values[known] - np.rint(values[known])) ** 2))) if known.any() else 0
    )
    evidence = f"they are {off:.2g} from whole numbers"
    misfit = deviation(off, 0.0, 0.02)
    if reference is not None:
        differences = np.abs(values[reference.rows] - reference.charges)
        apart = float(np.nanmedian(differences))
        misfit += deviation(apart, 0.0, 0.15)
        ions = np.abs(values[reference.rows]) > 0.5
        if ions.any():  # which a majority of neutral molecules would hide
            misfit += deviation(float(np.nanmedian(differences[ions])), 0.0, 0.15)
        evidence += f" and {apart:.2g} e from what {reference.origin} gives"
    return [Hypothesis("total_charge", "e", misfit, evidence)]
