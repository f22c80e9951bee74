"""Checks of dipoles and quadrupoles: of a possible size, and those of the ESP."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np
from jaxtyping import Float

from pipeline.chemistry.arrays import Atoms
from pipeline.chemistry.fitted_multipoles import traceless
from pipeline.ingestion.canonical import CanonicalBlock
from pipeline.ingestion.finding import Finding

# Charges alone leave much of the ESP of a nonpolar molecule; with dipoles and, for a few such
# as F2, quadrupoles on the atoms little is left of any real one, and nearly all of a misaligned
# one.
UNEXPLAINED: Final = 0.3
# Moments of fitted charges are within these (e·Å, e·Å²) of the true ones, or this part of those;
# in the reference data dipoles are within a third of it, quadrupoles (without their traces) within
# 0.6 e·Å².
_DIPOLE: Final = (0.3, 0.2)
_QUADRUPOLE: Final = (1.0, 0.25)
# Diffuse electrons of like atoms, as in Li2, Na2 and I2, make quadrupoles of which charges
# on the atoms have nothing; they are within this many times the limit.
_HARDLY_EXPLAINED: Final = 4.0
# Charges that no atom has, in e.
_LARGEST_CHARGE: Final = 5.0
# A moment is at most that of so many charges (e) at the ends of the molecule and of its electrons,
# which reach so far beyond (Å).
_APART, _BEYOND = 3.0, 2.0


def moments(block: CanonicalBlock) -> Iterator[Finding]:
    """Moments are what the charges that explain the ESP have, and those are of a sensible size."""
    fit, atoms = block.fit, block.atoms
    known = np.isfinite(fit.residual)
    size = np.sqrt((fit.charges**2).sum(axis=1) / np.maximum(atoms.mask.sum(axis=1), 1))
    yield Finding(
        known & (fit.unexplained < UNEXPLAINED) & (size > _LARGEST_CHARGE),
        lambda row: f"charges of {size[row]:.0f} e explain its ESP: it may be in another unit",
    )
    positions = np.nan_to_num(atoms.positions)
    dipole = np.einsum("ma,max->mx", fit.charges, positions)
    quadrupole = traceless(np.einsum("ma,max,may->mxy", fit.charges, positions, positions))
    found: dict[str, tuple[np.ndarray, np.ndarray, tuple[float, float], str]] = {}
    values = block.values
    if "dipole" in values:
        found["dipole"] = values["dipole"], dipole, _DIPOLE, "e·Å"
    if "dipole_magnitude" in values:
        magnitude = np.linalg.norm(dipole, axis=1)
        found["dipole magnitude"] = values["dipole_magnitude"], magnitude, _DIPOLE, "e·Å"
    if "quadrupole" in values:
        found["quadrupole"] = traceless(values["quadrupole"]), quadrupole, _QUADRUPOLE, "e·Å²"
    for name, (given, expected, (least, part), unit) in found.items():
        if name.replace(" ", "_") in block.declared:
            continue
        apart, scale = _size(given - expected), _size(expected)
        limit = np.where(fit.unexplained < UNEXPLAINED, least, _HARDLY_EXPLAINED * least)
        yield Finding(
            known & (apart > limit + part * scale),
            lambda row, name=name, apart=apart, unit=unit: (  # type: ignore[misc]
                f"its {name} is {apart[row]:.2f} {unit} from what its ESP gives"
            ),
        )
    yield from _impossible(block)


def _impossible(block: CanonicalBlock) -> Iterator[Finding]:
    """Moments that no molecule of its size has, such as numbers that stand for no value."""
    values, (away, reach) = block.values, _extent(block.atoms)
    charge = np.nan_to_num(np.abs(values.get("total_charge", np.zeros(len(reach)))))
    # About the origin, from which the molecule may be away.
    dipole = _APART * reach + charge * away
    quadrupole = _APART * reach**2 + 2 * _APART * reach * away + charge * away**2
    limits = {"dipole": dipole, "dipole_magnitude": dipole, "quadrupole": quadrupole}
    for name, limit in limits.items():
        given = values.get(name)
        if given is None:
            continue
        size = _size(traceless(given) if name == "quadrupole" else given)
        yield Finding(
            size > limit,
            lambda row, name=name, size=size: (  # type: ignore[misc]
                f"its {name.replace('_', ' ')} is {size[row]:.3g}, which no molecule of its size "
                "has: it may stand for no value"
            ),
        )


def _extent(
    atoms: Atoms,
) -> tuple[Float[np.ndarray, " molecule"], Float[np.ndarray, " molecule"]]:
    """Returns how far molecules are from the origin, and across with their electrons, in Å."""
    there = atoms.mask & np.isfinite(atoms.positions).all(axis=-1)
    positions = np.where(there[..., None], atoms.positions, 0.0)
    count = np.maximum(there.sum(axis=1), 1)[:, None]
    centers = positions.sum(axis=1) / count
    apart = np.linalg.norm(positions - centers[:, None], axis=-1)
    away = np.linalg.norm(centers, axis=1)
    return away, 2 * (np.where(there, apart, 0.0).max(axis=1, initial=0.0) + _BEYOND)


def _size(moments: Float[np.ndarray, "molecule *rest"]) -> Float[np.ndarray, " molecule"]:
    flat = moments.astype(np.float64).reshape(len(moments), -1)
    return np.linalg.norm(flat, axis=1)
