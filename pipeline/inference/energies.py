"""Energies: the zero they count from, by which their size says their unit."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from pipeline.chemistry.arrays import Atoms
from pipeline.chemistry.radii import van_der_waals_radii
from pipeline.inference.hypothesis import Hypothesis, curve, unsettled, weigh
from store_schema.units import FACTORS, to_canonical, weight_of

# Hartree-Fock energies of the free atoms H to Kr, and I and Xe, in hartree (E. Clementi and
# C. Roetti, At. Data Nucl. Data Tables 14 (1974) 177).
_FREE: Final = dict(
    enumerate(
        (
            *(-0.5000, -2.8617, -7.4327, -14.5730, -24.5291, -37.6886, -54.4009, -74.8094),
            *(-99.4093, -128.5471, -161.8589, -199.6146, -241.8767, -288.8544, -340.7188),
            *(-397.5049, -459.4821, -526.8175, -599.1648, -676.7582, -759.7357, -848.4060),
            *(-942.8843, -1043.3564, -1149.8663, -1262.4437, -1381.4146, -1506.8709),
            *(-1638.9637, -1777.8481, -1923.2610, -2075.3597, -2234.2387, -2399.8676),
            *(-2572.4413, -2752.0550),
        ),
        start=1,
    )
) | {53: -6917.9809, 54: -7232.1384}
# Beyond, rules are so much rougher: relativity, and atoms that the table lacks.
_LAST_EXACT, _HEAVY = 36, 5.0
# Correlation of an electron, on average.
_CORRELATION: Final = 0.03
# What an atom of each element gains in a molecule, fitted to experimental atomization energies
# of CH4, C2H6, H2O, NH3, HF, H2S, HCl and CH3Cl; hartree. Others gain about as much.
_BINDING: Final = {1: 0.104, 5: 0.2, 6: 0.253, 7: 0.163, 8: 0.162, 9: 0.121, 14: 0.2}
_BINDING_OF_OTHERS: Final = {15: 0.13, 16: 0.085, 17: 0.067, 35: 0.055, 53: 0.045}
_USUAL_BINDING: Final = 0.15
# Energies of valence electrons alone: semi-empirical (GFN2-xTB), and with pseudopotentials.
_SEMIEMPIRICAL: Final = {1: -0.39, 5: -1.2, 6: -1.79, 7: -2.61, 8: -3.77, 9: -4.62} | {
    **{14: -1.57, 15: -2.38, 16: -3.15, 17: -4.48, 35: -4.05, 53: -3.78}
}
_PSEUDOPOTENTIAL: Final = {1: -0.46, 5: -2.5, 6: -5.4, 7: -9.7, 8: -15.8, 9: -24.1} | {
    **{14: -3.8, 15: -6.5, 16: -10.1, 17: -14.9, 35: -13.3, 53: -11.2}
}
# Energies that count from anywhere may be of any size, within so many e-folds.
_RANGE: Final = 30.0
# How often a factor is that of no unit.
_ANOTHER: Final = 0.005
# Compositions that show independently of each other whether energies follow a rule.
_TELLING: Final = 20
_SEVERAL, _ENOUGH = 3, 64
# Share of molecules whose energies may be wrong.
_OUTLIERS: Final = 0.1


class _Zero(NamedTuple):
    """What energies may count from.

    Attributes:
        name: How messages call it.
        table: Energy of an atom of each element; None where there is no such rule.
        binding: Whether molecules are bound by their usual energy on top.
        often: How often it is met.
        spread: Relative error of the rule, the same for all molecules.
        scatter: Relative error from composition to composition.
        by_atom: They are divided by the number of atoms.
    """

    name: str
    table: dict[int, float]
    binding: bool
    often: float
    spread: float
    scatter: float
    by_atom: bool = False


_ZEROS: Final = (
    _Zero("total energies", _FREE, True, 0.5, 0.015, 0.015),
    _Zero("energies of valence electrons", _SEMIEMPIRICAL, True, 0.05, 0.08, 0.06),
    _Zero("energies with pseudopotentials", _PSEUDOPOTENTIAL, True, 0.05, 0.08, 0.06),
    _Zero("energies of binding", {}, True, 0.2, 0.15, 0.1),
    _Zero("energies of binding by the atom", {}, True, 0.03, 0.15, 0.1, by_atom=True),
    _Zero("total energies by the atom", _FREE, True, 0.03, 0.03, 0.03, by_atom=True),
)
# Energies of another zero scatter around a rule by this.
_ANYWHERE, _LOOSE = 0.15, 0.35


def energy_units(atoms: Atoms, energies: Float[np.ndarray, " molecule"]) -> list[Hypothesis]:
    """Weighs the units of energies, which may count from any zero.

    Total energies are those of the free atoms and of their binding; their ratio is the same for
    every molecule and composition. Where energies follow no such rule, their unit is open.

    Args:
        atoms: Atoms, in Å.
        energies: As in the file.
    """
    known = np.isfinite(energies) & (energies != 0) & (atoms.mask.sum(axis=1) > 0)
    if not known.any():
        return unsettled("energy", "there is no energy")
    numbers, values = atoms.numbers[known], energies[known]
    compositions = len({tuple(np.sort(row)) for row in numbers})
    fits = [fit for zero in _ZEROS for fit in [_fit(zero, numbers, values, compositions)] if fit]
    anywhere = _ANYWHERE / _RANGE * math.exp(_followed_by_chance(fits, compositions))
    # Readings are held against the best that any factor could do.
    most = max([anywhere, *(fit.density(fit.center) for fit in fits)])

    def misfit(density: float) -> float:
        return math.log(most / max(density, 1e-300)) if density < most else 0.0

    found = []
    for unit, factor in FACTORS["energy"].items():
        x = math.log(factor)
        best = max(fits, key=lambda fit: fit.density(x), default=None)
        text = "they follow no rule that says their unit"
        if best is not None and best.density(x) > anywhere:
            text = f"they are {math.exp(x - best.center):.3g} times {best.zero.name}"
        own = misfit(sum(fit.density(x) for fit in fits) + anywhere)
        found.append(Hypothesis("energy", unit, own, text, -math.log(weight_of(unit))))
    center = max(fits, key=lambda fit: fit.weight).center if fits else 0.0
    text = f"they need a factor of {math.exp(center):.3g}, which no unit has"
    text = text if fits else "no unit explains them"
    any_factor = misfit(sum(fit.weight for fit in fits) / _RANGE + anywhere)
    prior = -math.log(_ANOTHER * sum(weight_of(unit) for unit in FACTORS["energy"]))
    return [*found, Hypothesis("energy", None, any_factor, text, prior, log_factor=center)]


def _followed_by_chance(fits: Sequence[_Fit], compositions: int) -> float:
    """Logarithm of how well energies of another zero follow a rule: roughly, as they grow."""
    scatter = min((fit.scatter for fit in fits), default=1.0)
    loosely = -0.5 * (scatter / _LOOSE) ** 2 - math.log(_LOOSE)
    return min(compositions - 1, _TELLING) * max(loosely, -1.0)


def total_ratios(
    atoms: Atoms, energies: Float[np.ndarray, " molecule"]
) -> Float[np.ndarray, " molecule"] | None:
    """Returns how many times total energies values are; None if they follow no such rule.

    Args:
        atoms: Atoms; of several compositions, since one follows any rule.
        energies: In hartree; NaN where there is none.
    """
    known = np.isfinite(energies) & (atoms.mask.sum(axis=1) > 0)
    if not known.any() or not 0 < atoms.numbers.max() <= _LAST_EXACT:
        return None
    if len({tuple(np.sort(row)) for row in atoms.numbers[known][:_ENOUGH]}) < _SEVERAL:
        return None
    ratios = np.full(len(energies), np.nan)
    ratios[known] = energies[known] / _expected(_ZEROS[0], atoms.numbers[known])
    middle = float(np.median(ratios[known]))
    even = middle > 0 and np.median(np.abs(ratios[known] / middle - 1)) < _ZEROS[0].scatter
    return ratios if even else None


def free_atom_energies(
    elements: Int[np.ndarray, " element"],
) -> Float[np.ndarray, " element"]:
    """Returns what atoms of each element add to total energies, binding included, in hartree."""
    return np.array([_of_atom(_ZEROS[0], int(element)) for element in elements])


class _Fit(NamedTuple):
    zero: _Zero
    center: float
    spread: float
    weight: float
    scatter: float

    def density(self, x: float) -> float:
        """How probable a factor is, given as its logarithm."""
        off = min(0.5 * ((x - self.center) / self.spread) ** 2, 600.0)
        return self.weight * math.exp(-off) / (self.spread * math.sqrt(math.tau))


def _fit(
    zero: _Zero, numbers: np.ndarray, values: Float[np.ndarray, " molecule"], compositions: int
) -> _Fit | None:
    """How well energies follow a rule, whatever their unit."""
    expected = _expected(zero, numbers)
    ratios = values / expected
    middle = float(np.median(ratios))
    # Energies between molecules have either sign; those of a rule have one.
    if not middle > 0 or (ratios <= 0).mean() > _OUTLIERS or not np.isfinite(ratios).all():
        return None
    scatter = float(np.median(np.abs(ratios / middle - 1))) * 1.48
    heavy = _HEAVY if numbers.max() > _LAST_EXACT else 1.0
    off = min(0.5 * (scatter / (heavy * zero.scatter)) ** 2, 30.0)
    telling = min(compositions - 1, _TELLING)
    # Each composition that follows a rule is the less of a chance the narrower the rule is.
    follows = -telling * (off + math.log(heavy * zero.scatter)) - off
    return _Fit(
        zero, -math.log(middle), heavy * zero.spread, zero.often * math.exp(follows), scatter
    )


def _expected(zero: _Zero, numbers: np.ndarray) -> Float[np.ndarray, " molecule"]:
    """Energies by a rule, in hartree."""
    # Only what occurs: a file of another kind may have numbers of millions.
    there, places = np.unique(numbers, return_inverse=True)
    of_each = np.array([_of_atom(zero, int(number)) for number in there])
    total = of_each[places.reshape(numbers.shape)].sum(axis=1)
    return total / np.maximum((numbers > 0).sum(axis=1), 1) if zero.by_atom else total


def _of_atom(zero: _Zero, number: int) -> float:
    if number < 1:
        return 0.0
    own = zero.table.get(number)
    if zero.table is _FREE:
        own = _schwinger(number) if own is None else own - _CORRELATION * (number - 1)
    elif zero.table and own is None:
        own = math.nan
    gains = _BINDING | _BINDING_OF_OTHERS
    return (own or 0.0) - (gains.get(number, _USUAL_BINDING) if zero.binding else 0.0)


def _schwinger(z: int) -> float:
    """Energy of a free atom by the statistical model, Phys. Rev. A 24 (1981) 2353."""
    return -0.768745 * z ** (7 / 3) + 0.5 * z**2 - 0.269900 * z ** (5 / 3)


def polarizability_units(
    atoms: Atoms, tensors: Float[np.ndarray, "molecule 3 3"]
) -> list[Hypothesis]:
    """Weighs the units of polarizabilities: about a quarter of the cubed radii of the atoms."""
    isotropic = np.trace(tensors, axis1=1, axis2=2) / 3
    expected = 0.25 * np.nansum(van_der_waals_radii(atoms.numbers) ** 3, axis=1)
    known = np.isfinite(isotropic) & (isotropic > 0)
    if not known.any():
        return unsettled("polarizability", "there is none")
    in_cubic_bohr = expected[known] * to_canonical("angstrom^3", "polarizability")
    ratio = float(np.median(isotropic[known] / in_cubic_bohr))
    return weigh(
        "polarizability",
        [curve(1 / ratio, 0.3)],
        lambda factor: f"they are {ratio * factor:.2f} times what the sizes of the atoms suggest",
    )
