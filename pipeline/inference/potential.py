"""The unit and the sign of an ESP: charges fitted to it are whole in sum, and of known size."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from pipeline.chemistry.arrays import Atoms, Grid
from pipeline.chemistry.fitted_charges import fit_charges
from pipeline.chemistry.radii import surface_distance
from pipeline.inference.equilibration import equilibrated_charges
from pipeline.inference.hypothesis import Curve, Evidence, Hypothesis, curve, unsettled, weigh
from pipeline.inference.lengths import PENETRATED
from pipeline.inference.reference import line, species
from store_schema.units import BOHR_IN_ANGSTROM

_FITTED_MOLECULES: Final = 48
# Where charges leave more of the ESP, as around N2, their size says nothing of its unit.
_TOLD: Final = 0.5
# Sums of an ion's fitted charges, over their size, are above this; of neutral ones, far below.
_ION: Final = 0.4
# In e: how far fitted charges are from a whole sum, and what a doubly charged ion costs.
_WHOLE, _MULTIPLE = 0.015, 1.5
# Calibrated on the reference data (docs/inference.md): an ESP over that of charges from
# electronegativities, what all molecules share and what averages out over species.
_EEQ_SCALE, _EEQ_SPREAD, _EEQ_SPREAD_OF_ONE = 0.96, 0.12, 0.35
_LEAST_ALIGNMENT: Final = 0.6
# Charges on atoms are some tenths of e, within a factor of a few.
_TYPICAL_CHARGE, _CHARGE_SPREAD = 0.28, 0.8
# Sums of neutral molecules' charges have a median within 0.002 e of 0 in the reference data; in so
# many molecules, with nearly all on the same side, a larger one is a constant in the ESP.
_SHIFTED, _LEAST_SHIFTED, _SAME_SIDE = 0.012, 8, 0.9
# Points of a molecule that its ESP is compared on.
_COMPARED: Final = 160


class Fitted(NamedTuple):
    """Charges on the atoms that explain the ESP of some molecules, in the file's unit.

    Attributes:
        rows: Rows of these molecules in the sample.
        charges: Fitted charges, 0 at padding.
        sums: Their sums.
        sizes: Their root mean squares.
        residual: Share of the ESP that they leave.
        usable: Points that they were fitted to.
    """

    rows: Int[np.ndarray, " molecule"]
    charges: Float[np.ndarray, "molecule atom"]
    sums: Float[np.ndarray, " molecule"]
    sizes: Float[np.ndarray, " molecule"]
    residual: Float[np.ndarray, " molecule"]
    usable: Bool[np.ndarray, "molecule point"]

    def scaled(self, factor: float) -> Fitted:
        """Returns the charges of an ESP that is so many times as large."""
        return self._replace(charges=self.charges * factor, sums=self.sums * factor)


def fitted_charges(atoms: Atoms, grid: Grid) -> Fitted | None:
    """Fits charges to the ESP of some molecules; None if they explain it in none.

    Points inside the electrons of an atom are left out: no charges explain an ESP there.
    """
    usable = np.isfinite(grid.esp) & np.isfinite(grid.points).all(axis=-1)
    placed = (np.isfinite(atoms.positions).all(axis=-1) | ~atoms.mask).all(axis=1)
    rows = np.flatnonzero(usable.any(axis=1) & atoms.mask.any(axis=1) & placed)
    rows = rows[:: max(1, -(-len(rows) // _FITTED_MOLECULES))]
    if not rows.size:
        return None
    some = Atoms(atoms.numbers[rows], np.nan_to_num(atoms.positions[rows]), atoms.mask[rows])
    points = np.nan_to_num(grid.points[rows])
    outside = usable[rows] & (surface_distance(some, points) >= PENETRATED)
    esp = np.where(outside, grid.esp[rows], 0.0)
    fit = fit_charges(some.positions, some.mask, points, outside, esp)
    clear = np.flatnonzero(fit.residual < _TOLD)
    if not clear.size:
        return None
    charges, mask = fit.charges[clear], some.mask[clear]
    sizes = np.sqrt((charges**2).sum(axis=1) / np.maximum(mask.sum(axis=1), 1))
    return Fitted(
        rows[clear], charges, charges.sum(axis=1), sizes, fit.residual[clear], outside[clear]
    )


def potential_units(atoms: Atoms, grid: Grid, fitted: Fitted | None) -> list[Hypothesis]:
    """Weighs the units of an ESP by the charges that explain it.

    Sums of an ion's charges are whole; those of neutral molecules make about the ESP that
    electronegativities give.

    Args:
        atoms: Atoms, in Å.
        grid: Grid in Å, ESP in the file's unit.
        fitted: Charges that explain it.
    """
    if fitted is None:
        return unsettled("esp", "charges on the atoms do not explain it in any molecule")
    curves: list[Evidence] = []
    said: list[Callable[[float], str]] = []
    compared = _against_electronegativities(atoms, grid, fitted)
    if compared is not None:
        curves.append(compared)
        own = math.exp(-compared.center)
        said.append(
            lambda f: f"it is {f * own:.3g} times what the electronegativities of the atoms give"
        )
    ions = np.abs(fitted.sums) > _ION * fitted.sizes
    sums = np.abs(fitted.sums[ions])
    if not curves:
        size = float(np.median(fitted.sizes))
        curves.append(Curve(math.log(_TYPICAL_CHARGE / size), _CHARGE_SPREAD, sign=0))
        said.append(lambda f: f"the charges that explain it are {abs(f) * size:.2g} e in size")
    if sums.size:
        usual = float(np.median(sums))
        curves.append(WholeSums(sums, -math.log(usual), _WHOLE))
        said.append(lambda f: f"charges that explain it sum to {abs(f) * usual:.2f} e in ions")
    return weigh("esp", curves, lambda f: " and ".join(text(f) for text in said))


def _against_electronegativities(atoms: Atoms, grid: Grid, fitted: Fitted) -> Curve | None:
    """The ESP of neutral molecules against that of charges from electronegativities."""
    neutral = np.flatnonzero(np.abs(fitted.sums) <= _ION * fitted.sizes)
    given, expected, rows = [], [], []
    for row, usable in zip(fitted.rows[neutral].tolist(), fitted.usable[neutral], strict=True):
        real = atoms.mask[row]
        charges = equilibrated_charges(atoms.numbers[row][real], atoms.positions[row][real], 0.0)
        if charges is None or real.sum() < 2 or not np.isfinite(charges).all():
            continue
        points = np.flatnonzero(usable)
        points = points[np.linspace(0, len(points) - 1, _COMPARED).astype(int)]
        apart = grid.points[row, points, None] - atoms.positions[row][real]
        distance = np.maximum(np.linalg.norm(apart, axis=-1), BOHR_IN_ANGSTROM)
        given.append(grid.esp[row, points].astype(np.float64))
        expected.append((charges * BOHR_IN_ANGSTROM / distance).sum(axis=1))
        rows.append(row)
    if not rows:
        return None
    ratio, alignment = line(np.array(given), np.array(expected))
    if not abs(alignment) > _LEAST_ALIGNMENT:
        return None
    n = species(atoms, rows)
    spread = math.hypot(_EEQ_SPREAD, _EEQ_SPREAD_OF_ONE / math.sqrt(n))
    return curve(ratio / _EEQ_SCALE, spread)


def shift_of(atoms: Atoms, grid: Grid, fitted: Fitted) -> float:
    """Returns the constant that an ESP seems to be shifted by; 0 where there is no sign of one.

    A constant on a shell is about the potential of a net charge, so that the charges which explain
    the ESP of a neutral molecule sum to it.

    Args:
        atoms: Atoms, in Å.
        grid: Grid in Å, ESP in the file's unit.
        fitted: Charges that explain the ESP, in e.
    """
    neutral = np.flatnonzero(np.rint(fitted.sums) == 0)
    sums = fitted.sums[neutral]
    if len(sums) < _LEAST_SHIFTED or abs(float(np.median(sums))) < _SHIFTED:
        return 0.0
    if max((sums > 0).mean(), (sums < 0).mean()) < _SAME_SIDE:
        return 0.0
    shifts = []
    for row, usable, total in zip(fitted.rows[neutral], fitted.usable[neutral], sums, strict=True):
        middle = atoms.positions[row][atoms.mask[row]].mean(axis=0)
        distance = np.linalg.norm(grid.points[row][usable] - middle, axis=-1)
        shifts.append(total * (BOHR_IN_ANGSTROM / distance).mean())
    return float(np.median(shifts))


@dataclass(frozen=True)
class WholeSums:
    """Sums of ions' charges are whole numbers, and most of them one; see ``Evidence``.

    Attributes:
        sums: Their sizes in the file's unit.
        center: Logarithm of the factor that makes the usual one 1 e.
        sigma: Its standard deviation.
        sign: Sums say nothing of the sign.
    """

    sums: Float[np.ndarray, " molecule"]
    center: float
    sigma: float
    sign: int = 0

    def misfit(self, x: Float[np.ndarray, " x"]) -> Float[np.ndarray, " x"]:
        """Negative log-likelihood; see ``Evidence``."""
        in_e = np.minimum(np.exp(x), 1e30)[:, None] * self.sums
        whole = np.maximum(np.rint(in_e), 1.0)
        off = np.median(np.abs(in_e - whole) / whole, axis=1)
        multiple = np.log2(np.median(whole, axis=1))
        return 0.5 * (off / self.sigma) ** 2 + _MULTIPLE * multiple
