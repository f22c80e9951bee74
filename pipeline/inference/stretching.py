"""Force constants of bonds to hydrogen: much the same everywhere, so they show units of forces."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator
from typing import Final, NamedTuple

import numpy as np
from ase.data import covalent_radii
from jaxtyping import Float

from pipeline.chemistry.arrays import Atoms
from pipeline.chemistry.radii import radius_of

# In hartree/Å², by the other atom: 5.4, 7.5, 9.5, 9.7, 2.8, 3.2, 4.2, 5.2, 4.1 and 3.1 mdyn/Å of
# hydrocarbons, amines, alcohols and the hydrides; and their relative error between molecules.
_CONSTANTS: Final = {
    6: 1.25,
    7: 1.72,
    8: 2.2,
    9: 2.22,
    14: 0.64,
    15: 0.73,
    16: 0.95,
    17: 1.18,
    35: 0.95,
    53: 0.72,
}
_SPREAD: Final = 0.13
# In Å: how near to its usual length a bond pulls back by a parabola; by how much the lengths of
# bonds of one kind differ at least. At minima they differ by less, and forces say nothing.
_NEAR, _DISPLACED = 0.2, 0.018
# Of the sum of covalent radii.
_BONDED: Final = 1.3
# Geometries of one bond that are enough; points more than parameters of a fit; the largest
# relative error that says something.
_MIN_GEOMETRIES, _MIN_FREE, _LARGEST_ERROR = 5, 2, 0.15
# Bonds of one kind in different molecules that are enough, and how well they correlate.
_MIN_BONDS, _MIN_CORRELATION = 8, 0.75


class _Bond(NamedTuple):
    """A bond to hydrogen in one geometry.

    Attributes:
        molecule: Its atoms, and which of them it joins: the same for geometries of one molecule.
        kind: Element and number of neighbours of the other atom.
        length: In Å, less the sum of the covalent radii.
        pull: Force on the hydrogen along the bond, outwards.
        angles: Cosines of the angles to the other bonds of that atom.
    """

    molecule: tuple[bytes, int, tuple[int, ...]]
    kind: tuple[int, int]
    length: float
    pull: float
    angles: tuple[float, ...]

    @property
    def usual(self) -> float:
        """Usual force constant, hartree/Å²."""
        return _CONSTANTS[self.kind[0]]


def stretching(
    atoms: Atoms, forces: Float[np.ndarray, "molecule atom 3"]
) -> tuple[float, float] | None:
    """Force constants of bonds to hydrogen, over the usual ones.

    Geometries of one bond are compared at fixed angles to its neighbours; where a molecule has
    only a few, its bonds are compared with those of their kind in other molecules.

    Args:
        atoms: Atoms, in Å.
        forces: As in the file, NaN at padding.

    Returns:
        The ratio, negative for a gradient, and its relative error; None where there is too
        little evidence.
    """
    same: dict[object, list[_Bond]] = defaultdict(list)
    kinds: dict[object, list[_Bond]] = defaultdict(list)
    for bond in _bonds(atoms, forces):
        same[bond.molecule].append(bond)
    for bonds in same.values():
        if len(bonds) < _MIN_GEOMETRIES:
            kinds[bonds[0].kind] += bonds
    fits = [_of_one_bond(bonds) for bonds in same.values()]
    fits += [_of_one_kind(bonds) for bonds in kinds.values()]
    found = [fit for fit in fits if fit is not None]
    if not found or min(found)[0] * max(found)[0] < 0:
        return None
    ratios, errors = np.array(found).T
    weights = 1 / np.maximum(errors, 0.02) ** 2
    # What is not known of one bond is much the same of the others: errors do not average out.
    error = math.hypot(_SPREAD, float(np.average(errors, weights=weights)))
    return float(np.average(ratios, weights=weights)), error


def _bonds(atoms: Atoms, forces: Float[np.ndarray, "molecule atom 3"]) -> Iterator[_Bond]:
    """Bonds of all molecules to hydrogen that lie near their usual length."""
    for row, numbers in enumerate(atoms.numbers):
        real = numbers > 0
        z, place, pull = numbers[real], atoms.positions[row][real], forces[row][real]
        hydrogens = np.flatnonzero(z == 1)
        if len(z) < 2 or not hydrogens.size:
            continue
        radii = radius_of(covalent_radii, z)
        usual = radii[:, None] + radii
        apart = np.linalg.norm(place[:, None] - place, axis=-1)
        np.fill_diagonal(apart, np.inf)
        for h in hydrogens:
            other = int(np.nan_to_num(apart[h] / usual[h], nan=np.inf).argmin())
            length = float(apart[h, other] - usual[h, other])
            outwards = (place[h] - place[other]) / apart[h, other]
            along = float(pull[h] @ outwards)
            known = int(z[other]) in _CONSTANTS and math.isfinite(along)
            if not known or abs(length) > _NEAR:
                continue
            joined = np.flatnonzero(apart[other] < _BONDED * usual[other])
            joined = joined[joined != h]
            sides = (place[joined] - place[other]) / apart[other, joined, None]
            yield _Bond(
                (numbers.tobytes(), int(h), (other, *map(int, joined))),
                (int(z[other]), len(joined)),
                length,
                along,
                tuple(sides @ outwards),
            )


def _of_one_bond(bonds: list[_Bond]) -> tuple[float, float] | None:
    """Force constant where the force vanishes, over the usual one, and its relative error."""
    length, pull = _lengths_and_pulls(bonds)
    angles = np.array([bond.angles for bond in bonds])
    columns = [np.ones_like(length), length, length**2, *(angles - angles.mean(axis=0)).T]
    design = np.stack(columns, axis=1)
    free = len(design) - design.shape[1]
    if length.std() < _DISPLACED or free < _MIN_FREE:
        return None
    if np.linalg.matrix_rank(design) < design.shape[1]:
        return None
    fitted, *_ = np.linalg.lstsq(design, pull, rcond=None)
    roots = np.roots(fitted[2::-1])
    rest = roots[np.isreal(roots) & (np.abs(roots) < _NEAR)].real
    if not rest.size:
        return None  # nowhere near does the force vanish
    at = np.zeros(design.shape[1])
    at[1:3] = 1.0, 2 * rest[np.abs(rest).argmin()]
    slope = float(at @ fitted)
    noise = float(((pull - design @ fitted) ** 2).sum()) / free
    variance = noise * float(at @ np.linalg.inv(design.T @ design) @ at)
    error = math.sqrt(variance) * (1 + 2 / free) / abs(slope) if slope else math.inf
    return (-slope / bonds[0].usual, error) if error < _LARGEST_ERROR else None


def _of_one_kind(bonds: list[_Bond]) -> tuple[float, float] | None:
    """The same of bonds in different molecules, which rest at different lengths.

    Lengths at rest and angles scatter alike, so that the force constant lies between the slopes
    of either on the other: their geometric mean, give or take the square root of their ratio.
    """
    length, pull = _lengths_and_pulls(bonds)
    if len(bonds) < _MIN_BONDS or length.std() < _DISPLACED or not pull.std():
        return None
    correlation = float(np.corrcoef(length, pull)[0, 1])
    if abs(correlation) < _MIN_CORRELATION:
        return None
    slope = math.copysign(float(pull.std() / length.std()), correlation)
    sampling = math.sqrt((1 - correlation**2) / len(bonds))
    return -slope / bonds[0].usual, -math.log(abs(correlation)) + sampling


def _lengths_and_pulls(bonds: list[_Bond]) -> tuple[np.ndarray, np.ndarray]:
    length, pull = np.array([(bond.length, bond.pull) for bond in bonds]).T
    return length, pull
