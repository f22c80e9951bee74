"""Dipoles, quadrupoles and octupoles of atoms, held against what the molecule has.

Each order is held against what those below it leave: of the ESP, or of the molecule's own moment.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
from jaxtyping import Float

from pipeline.chemistry.arrays import Atoms, Grid, usable_points
from pipeline.chemistry.centers import ORIGIN
from pipeline.chemistry.fitted_multipoles import traceless
from pipeline.chemistry.multipoles import multipole_potential
from pipeline.inference.hypothesis import NO_FIT, Hypothesis, curve, deviation, weigh
from pipeline.inference.interpretation import Interpreter
from pipeline.inference.reference import Reference, line
from store_schema.semantics import SEMANTICS
from store_schema.units import BOHR_IN_ANGSTROM, SIGNED

# Variables by order, and what their values are multiplied by in each convention: Buckingham's
# moments are 3/2 and 5/2 of the traceless parts (Q. Rev. Chem. Soc. 13 (1959) 183).
_ORDERS: Final = (
    {"atomic_dipoles": 1.0},
    {"atomic_quadrupoles": 1.0, "buckingham_atomic_quadrupoles": 2 / 3},
    {"atomic_octupoles": 1.0, "buckingham_atomic_octupoles": 2 / 5},
)
# Less alignment with what is left says nothing.
_LEAST_ALIGNMENT: Final = 0.4
# Errors of a factor, relative, and of an alignment: by the molecule's moment, to which those of
# the atoms add up, and by the ESP, to which higher orders belong as well.
_BY_MOMENT, _BY_ESP = (0.05, 0.05), (0.1, 0.2)
# Traces below this part of a tensor are rounding.
_ROUNDING: Final = 0.02
_MOLECULES, _POINTS = 48, 256


class _Molecules(NamedTuple):
    """What there is besides the multipoles of one order.

    Attributes:
        work: Keys of the source.
        atoms: Atoms, in Å.
        grid: Grid in Å, ESP in the file's unit.
        reference: Moments that the ESP or the monopoles give.
    """

    work: Interpreter
    atoms: Atoms
    grid: Grid
    reference: Reference | None


class _Evidence(NamedTuple):
    """What multipoles of one order make, in canonical units of their own, and what they should.

    Attributes:
        given: Molecules first.
        expected: Likewise.
        what: What it is, for messages.
        errors: Of the factor between them, and of their alignment.
    """

    given: np.ndarray
    expected: np.ndarray
    what: str
    errors: tuple[float, float]


def settle_atomic_multipoles(
    work: Interpreter, atoms: Atoms, grid: Grid, reference: Reference | None
) -> None:
    """Settles multipoles of the atoms, by order, and records them.

    Args:
        work: Keys of the source.
        atoms: Atoms, in Å.
        grid: Grid in Å, ESP in the file's unit.
        reference: Moments that the ESP or the monopoles give.
    """
    molecules = _Molecules(work, atoms, grid, reference)
    below = [_of_atoms(work, atoms, "monopoles")]
    for order, conventions in enumerate(_ORDERS, 1):
        while (key := work.next_of(conventions, ())) is not None:
            values = atoms.per_atom(work.columns[key].reshape(work.n, -1, *[3] * order))
            evidence = _evidence(molecules, below, values)
            allowed = work.allowed(key)
            work.take(
                key,
                [
                    hypothesis
                    for semantics, scale in conventions.items()
                    if semantics in allowed
                    for hypothesis in _weighed(semantics, scale, values, evidence)
                ],
            )
        below.append(_of_atoms(work, atoms, next(iter(conventions))))


def _of_atoms(work: Interpreter, atoms: Atoms, stored: str) -> np.ndarray | None:
    """Values of a variable that is settled, by atom, in canonical units."""
    values = work.scaled(stored)
    if values is None:
        return None
    tail = () if stored == "monopoles" else values.shape[2:]
    return atoms.per_atom(values.reshape(work.n, -1, *tail))


def _weighed(
    semantics: str, scale: float, values: np.ndarray, evidence: Sequence[_Evidence]
) -> list[Hypothesis]:
    """Readings of multipoles in one convention."""
    if scale != 1 and _trace(values) > _ROUNDING:
        return []  # Buckingham's have none
    if not evidence:
        silent = "there is no moment of the molecule and no ESP to hold them against"
        return weigh(semantics, (), lambda _: silent, scale=scale)
    found = [(line(each.given, each.expected), each) for each in evidence]
    signed = SEMANTICS[semantics].quantity in SIGNED
    curves, misfit = [], 0.0
    for (ratio, alignment), each in found:
        misfit += min(deviation(abs(alignment), 1.0, each.errors[1]), 2 * NO_FIT)
        misfit += 2 * NO_FIT if ratio < 0 and not signed else 0.0
        if abs(alignment) < _LEAST_ALIGNMENT or not math.isfinite(ratio) or not ratio:
            misfit += 2 * NO_FIT
            continue
        # What else there is averages out over molecules, as far as they do not share it.
        scatter = math.sqrt(max(0.0, 1 - alignment**2) / len(each.given)) / abs(alignment)
        curves.append(curve(ratio, math.hypot(each.errors[0], scatter)))

    def said(factor: float) -> str:
        return "with the multipoles below they make " + " and ".join(
            f"{factor / ratio:.3g} times {each.what} "
            f"(correlation {math.copysign(1, factor) * alignment:.2f})"
            for (ratio, alignment), each in found
        )

    return weigh(semantics, curves, said, extra=misfit, scale=scale)


def _trace(tensors: np.ndarray) -> float:
    """Traces of the last two axes over the size of the tensors."""
    plain = np.nan_to_num(tensors)
    size = float(np.linalg.norm(plain))
    return float(np.linalg.norm(np.trace(plain, axis1=-2, axis2=-1))) / size if size else 0.0


def _evidence(
    molecules: _Molecules, below: list[np.ndarray | None], values: np.ndarray
) -> list[_Evidence]:
    """What multipoles of one order should make; nothing where an order below is not known."""
    known = [values for values in below if values is not None]
    if len(known) < len(below):
        return []
    order, work = len(below), molecules.work
    found: list[_Evidence | None] = []
    if order == 1:
        found += _dipoles(molecules, known[0], values)
    elif "esp" in work.readings:
        grid = molecules.grid
        grid = grid._replace(esp=grid.esp * work.readings["esp"].factor)
        found.append(_potentials(molecules.atoms, grid, known, values))
    if order == 2:
        found.append(_quadrupoles(work, molecules.atoms, known, values))
    return [each for each in found if each is not None]


def _dipoles(
    molecules: _Molecules,
    charges: Float[np.ndarray, "molecule atom"],
    values: Float[np.ndarray, "molecule atom 3"],
) -> list[_Evidence | None]:
    """Dipoles of the atoms are what charges leave of that of the molecule."""
    work, atoms, _, reference = molecules
    placed = np.nan_to_num(atoms.positions)
    made = np.einsum("ma,max->mx", np.nan_to_num(charges), placed)
    given = np.nansum(values, axis=1)
    found = []
    if reference is not None and reference.is_sharp:
        rows, what = reference.rows, "the dipole that the ESP says"
        found.append(_complete(given[rows], reference.dipole - made[rows], what, _BY_ESP))
    dipoles = work.scaled("dipole")
    if dipoles is not None and work.readings["dipole"].about == ORIGIN:
        left = dipoles.reshape(work.n, 3) - made
        found.append(_complete(given, left, work.readings["dipole"].key, _BY_MOMENT))
    return found


def _quadrupoles(
    work: Interpreter, atoms: Atoms, known: list[np.ndarray], values: np.ndarray
) -> _Evidence | None:
    """Quadrupoles of the atoms are what charges and dipoles leave of that of the molecule."""
    molecular = work.scaled("quadrupole")
    reading = work.readings.get("quadrupole")
    if molecular is None or reading is None or reading.semantics != "quadrupole_tensor":
        return None
    charges, dipoles = (np.nan_to_num(each) for each in known)
    placed = np.nan_to_num(atoms.positions)
    mixed = np.einsum("max,may->mxy", placed, dipoles)
    made = np.einsum("ma,max,may->mxy", charges, placed, placed) + mixed + mixed.transpose(0, 2, 1)
    expected = traceless(molecular.reshape(work.n, 3, 3)) - traceless(made)
    given = traceless(np.nansum(values, axis=1))
    return _complete(given, expected, reading.key, _BY_MOMENT)


def _potentials(
    atoms: Atoms, grid: Grid, known: list[np.ndarray], values: np.ndarray
) -> _Evidence | None:
    """Multipoles make what those below leave of the ESP."""
    usable = usable_points(grid.points, grid.esp)
    rows = np.flatnonzero(usable.any(axis=1) & _whole(atoms, [*known, values]))
    rows = rows[:: max(1, len(rows) // _MOLECULES)]
    given, expected = np.zeros((2, len(rows), _POINTS))
    for index, row in enumerate(rows):
        points = np.flatnonzero(usable[row])
        points = points[:: max(1, math.ceil(len(points) / _POINTS))]
        real, order = atoms.mask[row], len(known)
        around = grid.points[row, points], atoms.positions[row][real]
        places = [each / BOHR_IN_ANGSTROM for each in around]
        moments = [each[row][real] / BOHR_IN_ANGSTROM**n for n, each in enumerate([*known, values])]
        lower = multipole_potential(*places, *moments[:order])
        expected[index, : len(points)] = grid.esp[row, points] - lower
        given[index, : len(points)] = multipole_potential(*places, *moments) - lower
    return _complete(given, expected, "what those leave of the ESP", _BY_ESP) if len(rows) else None


def _whole(atoms: Atoms, moments: list[np.ndarray]) -> np.ndarray:
    """Molecules whose atoms all have every moment and a position."""
    found = np.ones(len(atoms.mask), bool)
    for values in (atoms.positions, *moments):
        finite = np.isfinite(values.reshape(*atoms.mask.shape, -1)).all(axis=-1)
        found &= (finite | ~atoms.mask).all(axis=1)
    return found


def _complete(
    given: np.ndarray, expected: np.ndarray, what: str, errors: tuple[float, float]
) -> _Evidence | None:
    """Evidence of the molecules that have both."""
    flat = [each.reshape(len(each), -1) for each in (given, expected)]
    there = np.isfinite(flat[0]).all(axis=1) & np.isfinite(flat[1]).all(axis=1)
    return _Evidence(given[there], expected[there], what, errors) if there.any() else None
