"""Units of positions and grids: bonds are as long as covalent radii, grids lie outside atoms."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from pipeline.chemistry.arrays import Atoms, Grid
from pipeline.chemistry.centers import center_of_mass
from pipeline.chemistry.fitted_charges import fit_charges
from pipeline.chemistry.radii import nearest_bonds, surface_distance
from pipeline.inference.hypothesis import (
    CONTRADICTED,
    Hypothesis,
    curve,
    deviation,
    log_deviation,
    shifted,
    unsettled,
    weigh,
)
from store_schema.units import FACTORS, weight_of

_BOND_SPREAD = 0.1
# The closest pairs of a file are shorter than usual bonds, and their lengths more different.
_CLOSEST, _CLOSEST_SPREAD = 0.9, 0.13
# Where the usual nearest atom is this much further than the closest, atoms are not all bonded.
_BONDED = 1.7
# Of the median, where the closest 1 % and 10 % of nearest atoms are; 0.78 and 0.86 in data.
_UNEVEN = (0.55, 0.7)
# Bohr read as angstrom make bonds 1.89 times as long; what is further apart is not bonded.
STRETCHED, _DISSOCIATED = 1.4, 2.6
# Lengths of one bond that differ by this are those of a scan.
_VARIED, _ONE_BOND_SPREAD = 1.06, 0.3
# No bond is so short, in covalent radii.
_ABSURD = 0.65
NOBLE_GASES = (2, 10, 18, 36, 54, 86)
# Of its van der Waals radius. A point nearer to an atom is inside it: no surface is there. A
# little further out, its electrons still keep charges from explaining the ESP.
INSIDE, PENETRATED = 0.5, 0.9
# Box grids have some points inside the atoms.
_FEW_INSIDE, _MOST = 0.1, 0.5
# Factors next to a unit that are tried in its place, and how near to a unit they are not; how
# seldom they are true, as a negative logarithm.
_NEIGHBOURS = (0.6, 0.7, 0.8, 1.25, 1.4, 1.6)
_APART, _OTHER_FACTOR = 0.1, 7.0
# Surfaces in use lie at 1 to 3 van der Waals radii.
_SURFACE, _SURFACE_SPREAD, _FAR = 1.7, 0.22, 20.0
# A wrong unit of the grid multiplies what fitted charges leave of the ESP; how much they
# leave of a single molecule's in the right one says little.
_RESIDUAL_SPREAD, _RESIDUAL_SPREAD_OF_ONE = 0.25, 0.6
_FITTED_MOLECULES = 24


def is_stretched(shortest: np.ndarray, longest: np.ndarray) -> np.ndarray:
    """Says which molecules have all bonds as long as if bohr were read as angstrom.

    Atoms that are further apart belong to scans and dissociated molecules, of which distances
    say nothing.

    Args:
        shortest: Least distance of an atom to its nearest neighbour, over the sum of covalent
            radii.
        longest: The largest.
    """
    return np.asarray((shortest > STRETCHED) & (longest < _DISSOCIATED))


def position_units(atoms: Atoms) -> list[Hypothesis]:
    """Weighs the units of positions by the lengths of bonds.

    In most files atoms are bonded, and the typical nearest neighbour is a covalent bond away.
    In scans, clusters of far atoms and dissociated pairs the closest pairs of the file are.
    """
    # Noble gases have no bonds to measure.
    reactive = np.where(np.isin(atoms.numbers, NOBLE_GASES), 0, atoms.numbers)
    ratios = nearest_bonds(atoms._replace(numbers=reactive))
    ratios = ratios[np.isfinite(ratios) & (ratios > 0)]
    if not ratios.size:
        return unsettled("positions", "no molecule has a bond")
    closest, short, usual = (float(np.percentile(ratios, share)) for share in (1, 10, 50))
    bonded = usual < _BONDED * short
    ratio, expected, spread = (
        (usual, 1.0, _BOND_SPREAD) if bonded else (closest, _CLOSEST, _CLOSEST_SPREAD)
    )
    if atoms.mask.sum(axis=1).max() == 2 and _species(atoms) == 1 and usual > _VARIED * closest:
        spread = _ONE_BOND_SPREAD  # a scan of one bond need not reach its usual length
    elif bonded and (closest < _UNEVEN[0] * usual or short < _UNEVEN[1] * usual):
        return unsettled(
            "positions",
            f"nearest atoms are {closest / usual:.2g} to 1 times their median distance apart, "
            "unlike bonds: as where axes, or atoms of several molecules, are mixed up",
        )
    which = "nearest atoms" if bonded else "the closest atoms of the file"
    weighed = weigh(
        "positions",
        [curve(expected / ratio, spread)],
        lambda factor: f"{which} are {ratio * factor:.2f} times their covalent radii apart",
    )
    # Atoms may be far apart in a file, and never this close.
    return [h if ratio * h.factor > _ABSURD else shifted(h, 2 * CONTRADICTED) for h in weighed]


def _species(atoms: Atoms) -> int:
    return len({tuple(np.sort(row)) for row in atoms.numbers[atoms.mask.any(axis=1)]})


def grid_units(atoms: Atoms, grid: Grid) -> list[Hypothesis]:
    """Weighs the units of a grid, around atoms in Å, by its distance and by the ESP on it."""
    if not (grid.n_grid > 0).any():
        return unsettled("vdw_surface", "no molecule has a grid")
    some = _fitted(atoms, grid)
    n = len(some[0].numbers)
    spread = _RESIDUAL_SPREAD + _RESIDUAL_SPREAD_OF_ONE / math.sqrt(n)
    measured = {unit: _measured(*some, factor) for unit, factor in FACTORS["length"].items()}
    likely = min(measured, key=lambda unit: _off(measured[unit]))
    # Any other factor near the best unit, which is of none.
    others = {
        factor: _measured(*some, factor)
        for factor in FACTORS["length"][likely] * np.array(_NEIGHBOURS)
        if all(abs(math.log(factor / own)) > _APART for own in FACTORS["length"].values())
    }
    least = min(place.residual for place in (*measured.values(), *others.values()))
    found = [
        Hypothesis("vdw_surface", unit, misfit, text, -math.log(weight_of(unit)))
        for unit, place in measured.items()
        for misfit, text in [_grid_misfit(place, least, spread)]
    ]
    for factor, place in others.items():
        misfit, _ = _grid_misfit(place, least, spread)
        text = f"charges explain the ESP best if its lengths are multiplied by {factor:.3g}"
        found.append(
            Hypothesis(
                "vdw_surface", None, misfit, text, _OTHER_FACTOR, log_factor=math.log(factor)
            )
        )
    return found


class _Place(NamedTuple):
    """Where a grid lies, its lengths multiplied by some factor.

    Attributes:
        distance: Median distance from the nearest atom, in van der Waals radii.
        residual: Median share of the ESP that charges on the atoms leave.
        inside: Share of the points that lie inside the atoms.
    """

    distance: float
    residual: float
    inside: float


def _off(place: _Place) -> float:
    return log_deviation(place.distance, _SURFACE, _SURFACE_SPREAD) + place.residual


def _grid_misfit(place: _Place, least: float, spread: float) -> tuple[float, str]:
    """How far off a place is, the best one leaving ``least`` of the ESP; and in words."""
    misfit = log_deviation(place.distance, _SURFACE, _SURFACE_SPREAD)
    misfit += log_deviation(max(place.residual, 1e-6), max(least, 1e-6), spread)
    misfit += deviation(max(place.inside - _FEW_INSIDE, 0.0), 0.0, _FEW_INSIDE)
    text = (
        f"the grid lies {place.distance:.2f} van der Waals radii from the atoms and charges on "
        f"them leave {100 * place.residual:.0f} % of the ESP"
    )
    if place.inside:
        text += f", leaving out {100 * place.inside:.1f} % of the points, inside the atoms"
    return misfit, text


def unexplained_on(atoms: Atoms, grid: Grid) -> float:
    """Returns what charges on the atoms leave of the ESP on a grid, in the unit that fits best."""
    if not (grid.n_grid > 0).any():
        return 1.0
    places = [_measured(*_fitted(atoms, grid), unit) for unit in FACTORS["length"].values()]
    return min(1 - (1 - place.residual) * (1 - place.inside) for place in places)


def _fitted(atoms: Atoms, grid: Grid) -> tuple[Atoms, Grid]:
    """Some molecules that have a grid."""
    rows = np.flatnonzero(grid.n_grid > 0)
    rows = rows[:: -(-len(rows) // _FITTED_MOLECULES)]
    some = Atoms(atoms.numbers[rows], np.nan_to_num(atoms.positions[rows]), atoms.mask[rows])
    counts = grid.n_grid[rows]
    return some, Grid(grid.points[rows], grid.esp[rows], counts, None, counts, grid.width)


def _measured(atoms: Atoms, grid: Grid, factor: float) -> _Place:
    """Where a grid lies if its lengths are multiplied by a factor."""
    points = np.nan_to_num(grid.points * factor)
    there = grid.mask & np.isfinite(grid.points).all(axis=-1)
    distances = np.where(there, surface_distance(atoms, points), np.nan)
    known = distances[np.isfinite(distances)]
    if not known.size:
        return _Place(np.inf, 1.0, 0.0)
    distance, outside = float(np.median(known)), there & (distances >= PENETRATED)
    inside = 1 - float(outside.sum()) / float(there.sum())
    # A few points say nothing of all, and points far away next to nothing.
    if inside > _MOST or distance > _FAR:
        return _Place(distance, 1.0, inside)
    usable = outside & np.isfinite(grid.esp)
    esp = np.where(usable, grid.esp, 0.0)
    fit = fit_charges(atoms.positions, atoms.mask, points, usable, esp)
    explained = fit.residual[np.isfinite(fit.residual)]
    return _Place(distance, float(np.median(explained)) if explained.size else 1.0, inside)


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
                -math.log(weight_of(unit)),
            )
        )
    return hypotheses
