"""Electric fields: the slope of the ESP on its grid."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Final

import numpy as np
from jaxtyping import Float

from pipeline.chemistry.arrays import Atoms, Grid, numeric
from pipeline.chemistry.fitted_multipoles import fit_multipoles
from pipeline.chemistry.multipoles import multipole_field
from pipeline.inference.hypothesis import Hypothesis, curve, deviation, unsettled, weigh
from pipeline.inference.interpretation import Interpreter
from pipeline.inference.reference import line
from store_schema.units import BOHR_IN_ANGSTROM

SEMANTICS: Final = ("electric_field", "potential_gradient")
_MOLECULES: Final = 16
# Relative error of a field from multipoles that explain an ESP, and the part of what they leave.
_SPREAD, _RESIDUAL_SPREAD = 0.02, 0.5
_EXPLAINED: Final = 0.3
_LEAST_ALIGNMENT: Final = 0.8
# Nobody gives fields by pm.
_ODD_LENGTH: Final = 4.0


def settle_fields(work: Interpreter, atoms: Atoms, grid: Grid) -> None:
    """Settles electric fields by the multipoles that explain the ESP.

    Args:
        work: What is settled so far, the ESP among it where there is one.
        atoms: Atoms, in Å.
        grid: Grid in Å, ESP in the file's unit.
    """
    while (key := work.next_of(SEMANTICS, ())) is not None:
        reading = work.readings.get("esp")
        if reading is None:
            reason = "that takes an ESP to hold them against"
            work.take(key, [h for name in _allowed(work, key) for h in unsettled(name, reason)])
            continue
        values = numeric(work.columns[key]).reshape(work.n, -1, 3)
        read = _readings(values, atoms, grid._replace(esp=grid.esp * reading.factor))
        work.take(key, [each for each in read if each.semantics in _allowed(work, key)])


def _allowed(work: Interpreter, key: str) -> list[str]:
    return [name for name in SEMANTICS if name in work.allowed(key)]


def _readings(
    values: Float[np.ndarray, "molecule point 3"], atoms: Atoms, grid: Grid
) -> list[Hypothesis]:
    given, expected, residuals = _held_against(values, atoms, grid)
    ratio, alignment = line(given, expected)
    if not math.isfinite(ratio) or not abs(alignment) > _LEAST_ALIGNMENT:
        reason = "multipoles that explain the ESP have another field"
        return [h for name in SEMANTICS for h in unsettled(name, reason)]
    spread = math.hypot(_SPREAD, _RESIDUAL_SPREAD * float(np.median(residuals)))
    return [
        replace(hypothesis, prior=hypothesis.prior + _odd(hypothesis.unit))
        for name, sign in zip(SEMANTICS, (1, -1), strict=True)
        for hypothesis in weigh(
            name,
            [curve(sign * ratio, spread)],
            lambda factor, sign=sign: (  # type: ignore[misc]
                f"it is {sign * factor / ratio:.3g} times the field of multipoles that explain the "
                f"ESP (correlation {abs(alignment):.2f})"
            ),
            extra=deviation(abs(alignment), 1.0, 0.1),
        )
    ]


def _odd(unit: str | None) -> float:
    """How unusual a unit of length is for fields, as a negative logarithm."""
    return _ODD_LENGTH if unit is not None and unit.endswith("/pm") else 0.0


def _held_against(
    values: Float[np.ndarray, "molecule point 3"], atoms: Atoms, grid: Grid
) -> tuple[np.ndarray, np.ndarray, list[float]]:
    """Fields as given and as multipoles have them, at the same points of some molecules."""
    given, expected, residuals = [], [], []
    width = grid.points.shape[1]
    usable = np.isfinite(grid.esp) & np.isfinite(grid.points).all(axis=-1)
    usable &= np.isfinite(values[:, :width]).all(axis=-1)
    rows = np.flatnonzero(usable.sum(axis=1) > 4 * atoms.mask.sum(axis=1))
    for row in rows[:: max(1, len(rows) // _MOLECULES)]:
        positions, points = atoms.positions[row][atoms.mask[row]], grid.points[row][usable[row]]
        charges, dipoles, residual = fit_multipoles(positions, points, grid.esp[row][usable[row]])
        if residual < _EXPLAINED:
            own = np.full((width, 3), 0.0)
            own[usable[row]] = multipole_field(
                points / BOHR_IN_ANGSTROM,
                positions / BOHR_IN_ANGSTROM,
                charges,
                dipoles / BOHR_IN_ANGSTROM,
            )
            expected.append(own)
            given.append(np.where(usable[row][:, None], values[row, :width], 0.0))
            residuals.append(residual)
    shape = (len(given), width, 3)
    return np.array(given).reshape(shape), np.array(expected).reshape(shape), residuals
