"""Moments of molecules from what a source brings besides them: what others are held against."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from pipeline.chemistry.arrays import Atoms, Grid
from pipeline.chemistry.centers import CENTERS
from pipeline.chemistry.fitted_multipoles import fit_multipoles, moments
from pipeline.chemistry.radii import surface_distance
from pipeline.inference.equilibration import equilibrated_charges, measured_dipole
from pipeline.inference.hypothesis import Curve, curve
from pipeline.inference.lengths import PENETRATED

_FITTED_MOLECULES = 48
# Relative error of a dipole from fitted multipoles; what they leave of the ESP adds to it.
ESP_SPREAD, _RESIDUAL_SPREAD = 0.012, 0.1
# That of a dipole from monopoles, which are those of a density partition (MBIS) more often
# than of another kind, whose dipoles are off by much more; what all molecules share, and what
# averages out. Dipoles of MBIS monopoles are that much too large.
_MONOPOLE_SPREAD, _MONOPOLE_SPREAD_OF_ONE, _MONOPOLE_SCALE = 0.04, 0.12, 0.95
_OTHER_PARTITION, _OTHER_PARTITION_SPREAD = 0.15, 0.5
# Of dipoles from electronegativities: what all molecules share, and what averages out.
_ROUGH_SPREAD: Final = (0.06, 0.42)
# Of dipoles known by experiment, which calculations and displaced geometries do not quite have.
_KNOWN_SPREAD: Final = (0.1, 0.12)
# Those of a species such as CO are wrong altogether, which matters where there are few.
_WRONG_ALTOGETHER, _WRONG_ISOMER, _WRONG_SPREAD = 0.15, 0.05, 1.0
# They are that much too large, as a comparison with PBE0 dipoles showed.
_ROUGH_SCALE = 0.92
# Errors of dipoles in e·Å, by which the points show that those of ions are about.
_ESP_ERROR, _MONOPOLE_ERROR, _ROUGH_ERROR = 0.006, 0.05, 0.3
# What messages call dipoles from experiments.
MEASURED: Final = "such molecules by experiment"
# Multipoles that leave more of the ESP say nothing of its moments.
_EXPLAINED = 0.5
# One in so many molecules may disagree with the others.
_ODD = 6
# No molecule weighs more than so many usual ones.
_HEAVIEST = 3.0


class Reference(NamedTuple):
    """Moments that the ESP (or, without it, something rougher) gives some molecules.

    Attributes:
        rows: Rows of these molecules in the sample.
        kinds: Which of them have the same atoms, as numbers.
        charges: Net charges in e.
        centers: Points other than the origin that dipoles may be about, by name, in Å.
        dipole: About the origin, in e·Å.
        quadrupole: Traceless, in e·Å².
        residual: What fitted multipoles leave of the ESP; NaN without an ESP.
        spread: Relative error to expect.
        error: Error of a dipole to expect, in e·Å.
        origin: What they come from, for messages.
        broad: How often it is of a kind that is off by more, and by how much.
    """

    rows: np.ndarray
    kinds: Int[np.ndarray, " molecule"]
    charges: Float[np.ndarray, " molecule"]
    centers: Mapping[str, Float[np.ndarray, "molecule 3"]]
    dipole: Float[np.ndarray, "molecule 3"]
    quadrupole: Float[np.ndarray, "molecule 3 3"]
    residual: Float[np.ndarray, " molecule"]
    spread: float
    error: float
    origin: str
    broad: tuple[float, float] = (0.0, 1.0)

    @property
    def is_measured(self) -> bool:
        """Whether they are those of experiments."""
        return self.origin == MEASURED

    @property
    def is_sharp(self) -> bool:
        """Whether they are those of an ESP."""
        return bool(np.isfinite(self.residual).any())

    def scaled(self, factor: float) -> Reference:
        """Returns the moments of an ESP or of monopoles that are so many times as large."""
        return self._replace(
            charges=self.charges * factor,
            dipole=self.dipole * factor,
            quadrupole=self.quadrupole * factor,
        )

    def evidence(self, ratio: float) -> Curve:
        """Returns the evidence that values must be multiplied by ``ratio`` to be like these."""
        return curve(ratio, self.spread, broad=self.broad[0], broad_sigma=self.broad[1])


def moments_of_esp(atoms: Atoms, grid: Grid) -> Reference | None:
    """Derives moments from the ESP of some molecules, in its unit; None where it has none."""
    usable = np.isfinite(grid.esp) & np.isfinite(grid.points).all(axis=-1)
    rows = np.flatnonzero(usable.sum(axis=1) > 4 * atoms.mask.sum(axis=1))
    found, kept = [], []
    for row in rows[:: max(1, len(rows) // _FITTED_MOLECULES)]:
        one = Atoms(atoms.numbers[row, None], atoms.positions[row, None], atoms.mask[row, None])
        outside = surface_distance(one, np.nan_to_num(grid.points[row, None]))[0] >= PENETRATED
        real, points = atoms.mask[row], usable[row] & outside
        positions = atoms.positions[row][real]
        if not np.isfinite(positions).all() or not points.any():
            continue
        charges, dipoles, residual = fit_multipoles(
            positions, grid.points[row][points], grid.esp[row][points]
        )
        if residual < _EXPLAINED:
            kept.append(row)
            found.append((charges.sum(), *moments(positions, charges, dipoles), residual))
    if not found:
        return None
    sums, dipoles, quadrupoles, residuals = (np.array(each) for each in zip(*found, strict=True))
    spread = math.hypot(ESP_SPREAD, _RESIDUAL_SPREAD * float(np.median(residuals)))
    molecules = np.array(kept)
    return Reference(
        molecules,
        compositions(atoms, molecules),
        sums,
        _centers(atoms, molecules),
        dipoles,
        quadrupoles,
        residuals,
        spread,
        _ESP_ERROR,
        "the ESP",
    )


def moments_of_monopoles(
    atoms: Atoms, monopoles: Float[np.ndarray, "molecule atom"]
) -> Reference | None:
    """Derives moments from monopoles, in their unit; None where there are none."""
    found, kept = [], []
    for row in range(len(monopoles)):
        charges = monopoles[row][atoms.mask[row]]
        positions = atoms.positions[row][atoms.mask[row]]
        if np.isfinite(charges).all() and np.any(charges) and np.isfinite(positions).all():
            kept.append(row)
            found.append((charges.sum(), *moments(positions, charges)))
    if not found:
        return None
    sums, dipoles, quadrupoles = (np.array(column) for column in zip(*found, strict=True))
    molecules = np.array(kept)
    centers = _centers(atoms, molecules)
    # What a net charge has of a dipole is exact.
    moved = sums[:, None] * centers["center_of_mass"]
    spread = math.hypot(_MONOPOLE_SPREAD, _MONOPOLE_SPREAD_OF_ONE / math.sqrt(species(atoms, kept)))
    return Reference(
        molecules,
        compositions(atoms, molecules),
        sums,
        centers,
        moved + _MONOPOLE_SCALE * (dipoles - moved),
        quadrupoles,
        np.full(len(kept), np.nan),
        spread,
        _MONOPOLE_ERROR,
        "the monopoles",
        (_OTHER_PARTITION, _OTHER_PARTITION_SPREAD),
    )


def _centers(
    atoms: Atoms, rows: Int[np.ndarray, " row"]
) -> dict[str, Float[np.ndarray, "molecule 3"]]:
    return {name: center(atoms)[rows] for name, center in CENTERS.items()}


def compositions(atoms: Atoms, rows: Int[np.ndarray, " row"]) -> Int[np.ndarray, " row"]:
    """Numbers molecules so that those of the same atoms have the same number."""
    return np.unique(np.sort(atoms.numbers[rows], axis=1), axis=0, return_inverse=True)[1].ravel()


def species(atoms: Atoms, rows: Sequence[int]) -> int:
    """Returns how many different compositions some molecules have.

    Errors are much the same in molecules of the same atoms, and do not average out.
    """
    return max(1, len(np.unique(compositions(atoms, np.array(rows, np.int64)))))


def rough_references(
    atoms: Atoms, charges: Float[np.ndarray, " molecule"] | None
) -> list[Reference]:
    """Derives dipoles from electronegativities, and from what is measured of small molecules.

    Args:
        atoms: Atoms, in Å.
        charges: Net charges in e, where the file has them; else molecules count as neutral.
    """
    rough: dict[int, np.ndarray] = {}
    known: dict[int, np.ndarray] = {}
    total = np.zeros(len(atoms.mask)) if charges is None else charges
    centers = CENTERS["center_of_mass"](atoms)
    for row in np.flatnonzero(atoms.mask.sum(axis=1) > 1).tolist():
        numbers, positions = atoms.numbers[row][atoms.mask[row]], atoms.positions[row]
        positions = positions[atoms.mask[row]]
        if not (np.isfinite(positions).all() and math.isfinite(total[row])):
            continue
        fitted = equilibrated_charges(numbers, positions, float(total[row]))
        if fitted is None:
            continue
        moved = float(total[row]) * centers[row]
        dipole = moved + _ROUGH_SCALE * (fitted @ positions - moved)
        size, measured = float(np.linalg.norm(dipole)), measured_dipole(numbers)
        if measured is not None and total[row] == 0 and size > 0:
            known[row] = dipole * measured / size
        rough[row] = dipole
    name = "the electronegativity of the atoms"
    found = []
    if rough:
        found.append(_rough(atoms, total, rough, _ROUGH_SPREAD, name, _WRONG_ALTOGETHER))
    if known:
        found.append(_rough(atoms, total, known, _KNOWN_SPREAD, MEASURED, _WRONG_ISOMER))
    return found


def _rough(  # noqa: PLR0917 - what makes a reference
    atoms: Atoms,
    total: Float[np.ndarray, " molecule"],
    dipoles: Mapping[int, np.ndarray],
    spread: tuple[float, float],
    origin: str,
    wrong: float,
) -> Reference:
    """Makes a reference of dipoles by row, of which a share is wrong altogether."""
    molecules = np.array(list(dipoles))
    n = species(atoms, list(dipoles))
    shared, averaged = spread
    return Reference(
        molecules,
        compositions(atoms, molecules),
        total[molecules],
        _centers(atoms, molecules),
        np.array(list(dipoles.values())),
        np.full((len(molecules), 3, 3), np.nan),
        np.full(len(molecules), np.nan),
        math.hypot(shared, averaged / math.sqrt(n)),
        _ROUGH_ERROR,
        origin,
        (wrong / n**2, _WRONG_SPREAD),
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

    The weighted median of the molecules' own factors shows which tenth agrees least.
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
    # By what is expected; one in another unit weighs no more than some of the others.
    sizes = np.linalg.norm(expected, axis=1)
    weights = np.minimum(sizes, _HEAVIEST * np.median(sizes))[order].cumsum()
    middle = factors[order][np.searchsorted(weights, weights[-1] / 2)]
    off = np.linalg.norm(given * middle - expected, axis=1)
    best = np.argsort(off)[: len(off) - len(off) // _ODD]
    given, expected = given[best], expected[best]
    product = float((given * expected).sum())
    norm = float(np.linalg.norm(given) * np.linalg.norm(expected))
    return Line(product / float((given * given).sum()), product / norm if norm > 0 else 0.0)
