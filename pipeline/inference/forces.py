"""Forces: the slope of their energies, and their units."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from typing import Final, NamedTuple

import numpy as np
from jaxtyping import Float

from pipeline.chemistry.arrays import Atoms
from pipeline.chemistry.turning import net_and_turning
from pipeline.inference.hypothesis import NO_FIT, Hypothesis, curve, weigh
from store_schema.units import weight_of

# Geometries this close, in Å, differ in energy by the mean force along the way. Closer pairs
# are better, by the square of their distance; so many of them are enough.
_NEAR, _SAME, _PAIRS, _MIN_PAIRS = 0.5, 1e-4, 400, 3
_MIN_CORRELATION: Final = 0.9
_SLOPE_SPREAD: Final = 0.012
# Relative error of the mean force, by the squared distance in Å: what curvature makes of it.
_CURVATURE: Final = 0.3
# So many pairs that correlate less contradict each other. Forces on a molecule of some atoms add up
# to less of their size; in data it is a few percent, or less than nothing at minima.
_ENOUGH_PAIRS, _UNRELATED, _NET, _FEW_ATOMS = 12, 0.5, 0.3, 3
# Nor do they turn it: torques are a thousandth of what another order or frame makes them. At
# minima, where little is left of either, they are as large as the net force.
_TURNING, _TURNING_OF_NET = 0.05, 5.0
# Pairs are looked for among so many geometries that follow.
_FOLLOWING: Final = 64
# E and F seldom have different units of energy, and forces are hardly given by pm or m; as
# negative logarithms. Where nothing else says the unit of either, E and F have the same.
_MIXED, _ODD_LENGTH, _UNANCHORED = 2.5, 3.0, 2 * NO_FIT


class Slope(NamedTuple):
    """Work of forces between near geometries, over the energy they differ by.

    Attributes:
        ratio: In the units of the file.
        error: Its relative error.
    """

    ratio: float
    error: float


def force_units(
    stretch: tuple[float, float] | None,
    slope: Slope | None,
    energy: Hypothesis | None,
    *,
    anchored: bool = False,
) -> list[Hypothesis]:
    """Weighs units and sign of forces.

    Bonds to hydrogen pull back with force constants that are much the same everywhere;
    energies of displaced geometries of one molecule differ by the work of the forces.

    Args:
        stretch: What ``stretching`` found.
        slope: What ``slope_of`` found.
        energy: How energies are read; None without any.
        anchored: Energies say their unit by themselves.
    """
    curves, said = [], []
    if slope is not None and energy is not None:
        factor = energy.factor / slope.ratio
        curves.append(curve(factor, slope.error))
        said.append(
            lambda f: f"{f / factor:.3g} times the slope of the energies ({energy.unit or 'any'})"
        )
    if stretch is not None:
        ratio, error = stretch
        curves.append(curve(1 / ratio, error))
        said.append(lambda f: f"{f * ratio:.2f} times the usual stretching of bonds to H")
    if not curves:
        said.append(
            lambda _: (
                "there is nothing to measure it by, such as geometries whose energies it follows"
            )
        )
    known = anchored or stretch is not None
    return [
        replace(h, misfit=h.misfit + odd, prior=_prior(h, energy))
        for semantics, sign in (("forces", 1), ("gradient", -1))
        for h in weigh(
            semantics,
            [replace(each, sign=sign * each.sign) for each in curves],
            lambda f, sign=sign: " and ".join(text(sign * f) for text in said),  # type: ignore[misc]
        )
        for odd in [0.0 if known or not _is_mixed(h, energy) else _UNANCHORED]
    ]


def _prior(force: Hypothesis, energy: Hypothesis | None) -> float:
    """How unusual a unit of forces is, given that of the energies."""
    if force.unit is None:
        return force.prior + (_MIXED if energy is not None else 0.0)
    own, _, length = force.unit.rpartition("/")
    odd = _ODD_LENGTH if length in ("pm", "m") else 0.0
    if energy is None:
        return odd + force.prior
    if own == energy.unit:
        # A rare unit is not rare next to energies in it.
        return odd - math.log(weight_of(length))
    return odd + _MIXED + force.prior - math.log(weight_of(own))


def _is_mixed(force: Hypothesis, energy: Hypothesis | None) -> bool:
    return energy is not None and not str(force.unit).startswith(f"{energy.unit}/")


def slope_of(
    atoms: Atoms,
    forces: Float[np.ndarray, "molecule atom 3"],
    energies: Float[np.ndarray, " molecule"],
) -> Slope | None:
    """Holds the work of forces between near geometries against the energy they differ by.

    Args:
        atoms: Atoms, in Å.
        forces: As in the file, NaN at padding.
        energies: As in the file.

    Returns:
        Their ratio; None where there is too little evidence.
    """
    near = near_pairs(atoms, forces, energies)
    return None if near is None else near.slope()


class NearPairs(NamedTuple):
    """Work of forces between near geometries, held against the energies they differ by.

    Attributes:
        ratio: Of work to energy, in the units of the file.
        correlation: Of the two.
        n: Pairs.
        distance: How far apart they are in the median, in Å.
    """

    ratio: float
    correlation: float
    n: int
    distance: float

    def slope(self) -> Slope | None:
        """Returns the ratio with its error; None where they correlate too little."""
        if not abs(self.correlation) > _MIN_CORRELATION:
            return None
        error = math.hypot(
            _SLOPE_SPREAD,
            2 * _relative_error(self.correlation, self.n + 1),
            _CURVATURE * self.distance**2,
        )
        return Slope(self.ratio, error)


def are_unrelated(
    atoms: Atoms,
    forces: Float[np.ndarray, "molecule atom 3"],
    near: NearPairs | None,
) -> str:
    """Says why values cannot be forces of these molecules, whatever their unit; empty if they can.

    Forces on a molecule that stands alone add up to nothing, do not turn it, and are slopes of
    its energies.
    """
    known = np.isfinite(forces).all(axis=-1) & atoms.mask
    whole = known.sum(axis=1) == atoms.mask.sum(axis=1)
    rows = whole & (known.sum(axis=1) > _FEW_ATOMS)
    if rows.any():
        some = Atoms(atoms.numbers[rows], atoms.positions[rows], atoms.mask[rows])
        net, turning = (
            float(np.median(total.share)) for total in net_and_turning(some, forces[rows])
        )
        if net > _NET:
            return f"the sum over a molecule is {100 * net:.0f} % of their size, not nothing"
        if turning > max(_TURNING, _TURNING_OF_NET * net):
            return (
                f"they turn the molecules (torques are {100 * turning:.0f} % of their size, not "
                "nothing)"
            )
    if near is not None and near.n >= _ENOUGH_PAIRS and abs(near.correlation) < _UNRELATED:
        return f"the work does not follow the energies (correlation {near.correlation:.2f})"
    return ""


def near_pairs(
    atoms: Atoms,
    forces: Float[np.ndarray, "molecule atom 3"],
    energies: Float[np.ndarray, " molecule"],
) -> NearPairs | None:
    """Holds the work between near geometries of one molecule against the energies."""
    same: dict[bytes, list[int]] = defaultdict(list)
    there = (np.isfinite(forces).all(axis=-1) | ~atoms.mask).all(axis=1) & np.isfinite(energies)
    for row in np.flatnonzero(there).tolist():  # what lacks its forces has no work
        same[atoms.numbers[row].tobytes()].append(row)
    work, gained, apart = [], [], []
    for rows in same.values():
        for i, j, distance in _neighbours(rows, atoms):
            step = np.nan_to_num(atoms.positions[j] - atoms.positions[i])
            work.append(-0.5 * float((np.nan_to_num(forces[i] + forces[j]) * step).sum()))
            gained.append(float(energies[j] - energies[i]))
            apart.append(distance)
    nearest = np.argsort(apart)[:_PAIRS]
    weights = 1 / np.array(apart)[nearest] ** 2
    done, lost = np.array(work)[nearest] * weights, np.array(gained)[nearest] * weights
    known = np.isfinite(done) & np.isfinite(lost)
    done, lost = done[known], lost[known]
    norm = math.sqrt(float(done @ done) * float(lost @ lost))
    if len(done) < _MIN_PAIRS or not norm > 0:
        return None
    ratio = float(done @ lost) / float(lost @ lost)
    distance = float(np.median(np.array(apart)[nearest]))
    return NearPairs(ratio, float(done @ lost) / norm, len(done), distance)


def _relative_error(correlation: float, n: int) -> float:
    """Relative standard error of the slope of a line through ``n`` points."""
    return math.sqrt(max(1 - correlation**2, 0.0) / (n - 2)) / abs(correlation)


def _neighbours(rows: Sequence[int], atoms: Atoms) -> list[tuple[int, int, float]]:
    """Pairs of geometries that lie near each other, and how far apart they are."""
    pairs = []
    for index, i in enumerate(rows):
        others = rows[index + 1 : index + 1 + _FOLLOWING]
        if not others:
            continue
        steps = np.abs(atoms.positions[others] - atoms.positions[i])
        distances = np.nan_to_num(steps).max(axis=(1, 2))
        pairs += [
            (i, j, float(distance))
            for j, distance in zip(others, distances, strict=True)
            if _SAME < distance < _NEAR
        ]
    return pairs
