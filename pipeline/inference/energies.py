"""Energies and forces: what their size and their relation to bonds say of units and sign."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from typing import Final

import numpy as np
from jaxtyping import Float

from pipeline.inference.hypothesis import Hypothesis, deviation, log_deviation, unsettled
from pipeline.inference.lengths import van_der_waals_radii
from pipeline.structure import Atoms
from store_schema.units import FACTORS, to_canonical

# Atomization takes about this much an atom, in hartree.
_BINDING_PER_ATOM: Final = 0.17
# Stretching force constants of bonds to hydrogen in hartree/Å² (5.4, 7.5, 9.5 and
# 4.2 mdyn/Å), by the other atom.
_STRETCH: Final = {6: 1.25, 7: 1.72, 8: 2.2, 16: 0.95}
_STRETCH_SPREAD: Final = 0.15
_WORK_SPREAD: Final = 0.1
_MIN_BONDS: Final = 8
_MIN_CORRELATION: Final = 0.6
# Geometries this close, in Å, differ in energy by the mean force along the way.
_NEAR: Final = 0.5


def energy_units(atoms: Atoms, energies: Float[np.ndarray, " molecule"]) -> list[Hypothesis]:
    """Weighs the units of energies, total or referenced to the atoms.

    Total energies are held against those of free atoms by the statistical model of
    J. Schwinger, Phys. Rev. A 24 (1981) 2353: E = -0.7687 Z^(7/3) + Z²/2 - 0.2699 Z^(5/3).
    """
    z = atoms.numbers.astype(np.float64)
    free = (-0.768745 * z ** (7 / 3) + 0.5 * z**2 - 0.269900 * z ** (5 / 3)).sum(axis=1)
    known = np.isfinite(energies) & (energies != 0)
    units = [Hypothesis("energy", unit, 0.0, "") for unit in FACTORS["energy"]]
    if not known.any():
        return unsettled(units, "there is no energy")
    ratios = energies[known] / free[known]
    bindings = energies[known] / atoms.mask[known].sum(axis=1)
    ratio, size = float(np.median(ratios)), abs(float(np.median(bindings)))
    # Neither is much the same for all molecules where energies count from another zero.
    uneven = [float(np.std(each) / max(abs(np.median(each)), 1e-30)) for each in (ratios, bindings)]
    return [
        Hypothesis(
            "energy",
            unit,
            min(
                log_deviation(ratio * factor, 1.0, 0.05) + deviation(uneven[0], 0.0, 0.05),
                4.0
                + log_deviation(size * factor, _BINDING_PER_ATOM, 0.4)
                + deviation(uneven[1], 0.0, 0.25),
            ),
            f"they are {ratio * factor:.3g} times the energies of the free atoms and "
            f"{size * factor:.3g} hartree an atom",
        )
        for unit, factor in FACTORS["energy"].items()
    ]


def force_units(
    atoms: Atoms,
    forces: Float[np.ndarray, "molecule atom 3"],
    energies: Float[np.ndarray, " molecule"] | None,
) -> list[Hypothesis]:
    """Weighs units and sign of forces.

    Bonds to hydrogen pull back with force constants that are much the same everywhere;
    energies of displaced geometries of one molecule differ by the work of the forces.

    Args:
        atoms: Atoms, in Å.
        forces: As in the file, NaN at padding.
        energies: In hartree, where the file has them.
    """
    evidence: list[tuple[float, float, str]] = []
    stretch = _stretching(atoms, forces)
    if stretch is not None:
        evidence.append((*stretch, "times the usual stretching of bonds to H"))
    work = None if energies is None else _work(atoms, forces, energies)
    if work is not None:
        evidence.append((*work, "times the energy between displaced geometries"))
    candidates = [
        Hypothesis("forces", unit, 0.0, "", sign)
        for unit in FACTORS["force"]
        for sign in (1.0, -1.0)
    ]
    if not evidence:
        return unsettled(candidates, "no displaced geometries or stretched bonds to measure it by")
    return [
        Hypothesis(
            "forces",
            candidate.unit,
            sum(
                log_deviation(value * candidate.factor, 1.0, spread)
                for value, spread, _ in evidence
            ),
            ("the gradient: " if candidate.scale < 0 else "")
            + " and ".join(f"{value * candidate.factor:.2f} {text}" for value, _, text in evidence),
            candidate.scale,
        )
        for candidate in candidates
    ]


def polarizability_units(
    atoms: Atoms, tensors: Float[np.ndarray, "molecule 3 3"]
) -> list[Hypothesis]:
    """Weighs the units of polarizabilities: about a quarter of the cubed radii of the atoms."""
    isotropic = np.trace(tensors, axis1=1, axis2=2) / 3
    expected = 0.25 * np.nansum(van_der_waals_radii(atoms.numbers) ** 3, axis=1)
    known = np.isfinite(isotropic) & (isotropic > 0)
    units = [Hypothesis("polarizability", unit, 0.0, "") for unit in FACTORS["polarizability"]]
    if not known.any():
        return unsettled(units, "there is none")
    in_cubic_bohr = expected[known] * to_canonical("angstrom^3", "polarizability")
    ratio = float(np.median(isotropic[known] / in_cubic_bohr))
    return [
        Hypothesis(
            "polarizability",
            unit,
            log_deviation(ratio * factor, 1.0, 0.4),
            f"they are {ratio * factor:.2f} times what the sizes of the atoms suggest",
        )
        for unit, factor in FACTORS["polarizability"].items()
    ]


def _relative_error(correlation: float, n: int) -> float:
    """Relative standard error of the slope of a line through ``n`` points."""
    return math.sqrt(max(1 - correlation**2, 0.0) / (n - 2)) / abs(correlation)


def _stretching(
    atoms: Atoms, forces: Float[np.ndarray, "molecule atom 3"]
) -> tuple[float, float] | None:
    """Slope of the force on H against the bond length, over the usual force constant.

    Returns:
        The ratio, and its relative error; None where there is too little to tell.
    """
    bonds: dict[int, list[tuple[float, float]]] = defaultdict(list)
    for numbers, positions, pull in zip(atoms.numbers, atoms.positions, forces, strict=True):
        for h in np.flatnonzero(numbers == 1):
            lengths = np.linalg.norm(positions - positions[h], axis=1)
            lengths[h] = np.inf
            other = int(np.nanargmin(lengths)) if np.isfinite(lengths).any() else h
            along = pull[h] @ (positions[h] - positions[other]) / lengths[other]
            if int(numbers[other]) in _STRETCH and math.isfinite(along):
                bonds[int(numbers[other])].append((float(lengths[other]), float(along)))
    found, errors = [], []
    for element, pairs in bonds.items():
        length, along = np.array(pairs).T
        if len(pairs) < _MIN_BONDS or not length.std() or not along.std():
            continue
        correlation = float(np.corrcoef(length, along)[0, 1])
        if abs(correlation) > _MIN_CORRELATION:
            found.append(-float(np.polyfit(length, along, 1)[0]) / _STRETCH[element])
            errors.append(_relative_error(correlation, len(pairs)))
    if not found:
        return None
    weights = 1 / np.maximum(errors, 0.01) ** 2
    error = math.hypot(_STRETCH_SPREAD, 1 / math.sqrt(float(weights.sum())))
    return float(np.average(found, weights=weights)), error


def _work(
    atoms: Atoms,
    forces: Float[np.ndarray, "molecule atom 3"],
    energies: Float[np.ndarray, " molecule"],
) -> tuple[float, float] | None:
    """Work of the forces between near geometries of a molecule, over the energy they differ by.

    Returns:
        The ratio, and its relative error; None where there is too little to tell.
    """
    same: dict[bytes, list[int]] = defaultdict(list)
    for row, numbers in enumerate(atoms.numbers):
        same[numbers.tobytes()].append(row)
    work, gained = [], []
    for rows in same.values():
        for i, j in _neighbours(rows, atoms):
            step = np.nan_to_num(atoms.positions[j] - atoms.positions[i])
            work.append(-0.5 * float((np.nan_to_num(forces[i] + forces[j]) * step).sum()))
            gained.append(float(energies[j] - energies[i]))
    if len(work) < 3 or not np.isfinite([*work, *gained]).all() or not np.any(gained):
        return None
    correlation = float(np.corrcoef(work, gained)[0, 1])
    if not abs(correlation) > _MIN_CORRELATION:
        return None
    error = math.hypot(_WORK_SPREAD, _relative_error(correlation, len(work)))
    return float(np.dot(work, gained) / np.dot(gained, gained)), error


def _neighbours(rows: Sequence[int], atoms: Atoms) -> list[tuple[int, int]]:
    """Pairs of geometries that lie near each other."""
    pairs = []
    for index, i in enumerate(rows):
        for j in rows[index + 1 : index + 9]:
            if np.nanmax(np.abs(atoms.positions[j] - atoms.positions[i])) < _NEAR:
                pairs.append((i, j))
    return pairs
