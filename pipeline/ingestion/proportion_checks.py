"""Checks of monopoles: their dipole is that of the molecule, but for what all molecules share."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np
from jaxtyping import Float

from pipeline.ingestion.canonical import CanonicalBlock
from pipeline.ingestion.finding import Finding

# Dipoles of a partition are all about as much too small or too large. What is left of the others,
# as a part of their size and this (e·Å), has a median of 0.05 (MBIS) to 0.14 (Mulliken, in 25,864
# molecules of GFN2-xTB). None of these is further off than the limit: this, or so many medians.
_SMALL: Final = 0.4
_APART, _MEDIANS = 0.5, 10
_MOST_SCATTER: Final = 0.2
_FEWEST: Final = 8


def proportions(block: CanonicalBlock) -> Iterator[Finding]:
    """Dipoles of molecules, or of their ESP, are to those of their monopoles as in the others."""
    monopoles, atoms = block.values.get("monopoles"), block.atoms
    if monopoles is None:
        return
    charges = np.nan_to_num(monopoles.astype(np.float64))
    positions = np.nan_to_num(atoms.positions)
    middle = positions.sum(axis=1) / np.maximum(atoms.mask.sum(axis=1), 1)[:, None]
    arms = np.where(atoms.mask[..., None], positions - middle[:, None], 0.0)
    there = np.isfinite(monopoles).any(axis=1)[:, None]
    own = np.where(there, np.einsum("ma,max->mx", charges, arms), np.nan)
    if "dipole" in block.values:
        net = block.values.get("total_charge", np.rint(charges.sum(axis=1)))
        name, expected = "dipole", block.values["dipole"] - np.nan_to_num(net)[:, None] * middle
    else:
        known = np.isfinite(block.fit.residual)[:, None]
        fitted = np.einsum("ma,max->mx", block.fit.charges, arms)
        name, expected = "ESP", np.where(known, fitted, np.nan)
    polar = (_size(own) > _SMALL) & (_size(expected) > _SMALL)
    if polar.sum() < _FEWEST:
        return
    along = np.einsum("mx,mx->m", own[polar], expected[polar])
    usual = float(np.median(along / _size(own[polar]) ** 2))
    own = usual * own
    apart = _size(expected - own) / (np.minimum(_size(own), _size(expected)) + _SMALL)
    scatter = float(np.nanmedian(apart))
    if not usual > 0 or scatter > _MOST_SCATTER:
        return
    times = np.einsum("mx,mx->m", own, expected) / np.maximum(_size(own) ** 2, 1e-6)
    yield Finding(
        apart > max(_APART, _MEDIANS * scatter),
        lambda row: (
            f"its {name} is {times[row] * usual:.2g} times that of its monopoles, and {usual:.2g} "
            "times in the others"
        ),
    )


def _size(vectors: Float[np.ndarray, "molecule 3"]) -> Float[np.ndarray, " molecule"]:
    return np.linalg.norm(vectors, axis=1)
