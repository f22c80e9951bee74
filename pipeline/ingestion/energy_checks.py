"""Checks of energies: molecules of one file follow one rule, a sum over their atoms."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np
from jaxtyping import Float

from pipeline.chemistry.arrays import Atoms
from pipeline.chemistry.radii import nearest_bonds
from pipeline.inference.energies import free_atom_energies, total_ratios
from pipeline.ingestion.canonical import CanonicalBlock
from pipeline.ingestion.finding import Finding

# In hartree. In the reference data and in 25,864 molecules of GFN2-xTB sums over the atoms are
# within 0.6 of the energies, and within 0.8 among hypervalent molecules such as SF6; displaced
# geometries only reach further where atoms are squeezed, to 1.8.
_APART: Final = 0.9
_APART_SQUEEZED: Final = 5.0
# Shortest distance of squeezed atoms, in covalent radii.
_SQUEEZED: Final = 0.7
# Sums that scatter as much as this part of the limit are no rule.
_SCATTER: Final = 0.2
# What an atom's share of a total energy usually differs by from that of the free atom: by the
# method, as a part of it, and by binding; such a difference costs as much as a molecule so far off.
_BY_METHOD, _BY_BINDING, _COSTS = 0.005, 0.1, 0.4
# Total energies are this near to those of free atoms and their binding.
_TOTAL: Final = 0.1
# Molecules for each coefficient of a rule that starts from nothing.
_ENOUGH: Final = 2
_STEPS: Final = 50
_LEAST: Final = 1e-4


def energies(block: CanonicalBlock) -> Iterator[Finding]:
    """Energies are about the sum of what each atom of the molecule adds in the others."""
    energy = block.values.get("energy")
    if energy is None:
        return
    charges = block.values.get("total_charge", np.zeros(len(energy)))
    apart = _from_rule(block.atoms, energy.astype(np.float64), charges.astype(np.float64))
    usual = np.abs(apart[np.isfinite(apart)])
    if not usual.size or np.median(usual) > _SCATTER * _APART:
        return
    bonds = np.where(block.atoms.mask, nearest_bonds(block.atoms), np.inf)
    squeezed = bonds.min(axis=1, initial=np.inf) < _SQUEEZED
    limit = np.where(squeezed & (apart > 0), _APART_SQUEEZED, _APART)
    yield Finding(
        np.abs(apart) > limit,
        lambda row: (
            f"its energy is {abs(apart[row]):.3g} hartree {'above' if apart[row] > 0 else 'below'} "
            "what its atoms have in the other molecules: its energy or an element may be wrong"
        ),
    )


def _from_rule(
    atoms: Atoms, energies: Float[np.ndarray, " molecule"], charges: Float[np.ndarray, " molecule"]
) -> Float[np.ndarray, " molecule"]:
    """Returns energies less those of their compositions, fitted to all molecules; NaN without.

    The sum of absolute deviations is least, which a few wrong energies do not move. Total
    energies start from free atoms, so that an element of a single molecule explains nothing.
    """
    known = np.isfinite(energies) & atoms.mask.any(axis=1)
    apart = np.full(len(energies), np.nan)
    if not known.any():
        return apart
    elements = np.unique(atoms.numbers[known])
    elements = elements[elements > 0]
    counts = np.stack([(atoms.numbers[known] == each).sum(axis=1) for each in elements], axis=1)
    charge = np.nan_to_num(charges[known])[:, None]
    ratios = total_ratios(atoms, energies)
    ratio = 0.0 if ratios is None else float(np.median(ratios[known]))
    if abs(ratio - 1) < _TOTAL:
        free = ratio * free_atom_energies(elements)
        spread = np.append(_BY_METHOD * np.abs(free) + _BY_BINDING, [1.0, 1.0])
        columns = np.hstack([counts, charge, charge**2])
        apart[known] = _deviations(columns, energies[known] - counts @ free, spread)
    else:
        columns = np.hstack([counts, charge, charge**2, np.ones_like(charge)])
        if len(columns) > _ENOUGH * np.linalg.matrix_rank(columns):
            apart[known] = _deviations(columns, energies[known], None)
    return apart


def _deviations(
    columns: Float[np.ndarray, "molecule column"],
    values: Float[np.ndarray, " molecule"],
    spread: Float[np.ndarray, " column"] | None,
) -> Float[np.ndarray, " molecule"]:
    """Deviations from the linear rule with the least sum of their absolute values.

    Iteratively reweighted least squares, E. J. Schlossmacher, J. Am. Stat. Assoc. 68 (1973) 857.

    Args:
        columns: What values depend on.
        values: The values.
        spread: How far the coefficients usually are from 0; None where they may be anything.
    """
    penalty = np.zeros((0, columns.shape[1])) if spread is None else np.diag(_COSTS**0.5 / spread)
    none = np.zeros(len(penalty))
    weights = np.ones(len(values))
    deviations = values
    for _ in range(_STEPS):
        left, right = np.vstack([columns * weights[:, None], penalty]), weights * values
        rule, *_ = np.linalg.lstsq(left, np.append(right, none), rcond=None)
        previous, deviations = deviations, values - columns @ rule
        if np.abs(deviations - previous).max() < _LEAST:
            break
        weights = np.maximum(np.abs(deviations), _LEAST) ** -0.5
    return deviations
