"""Molecules with multipoles on their atoms, and with the moments and ESPs that those make."""

import json

import numpy as np

from pipeline.chemistry.multipoles import multipole_potential
from store_schema.units import BOHR_IN_ANGSTROM as BOHR

UNITS = {
    "R": "angstrom",
    "vdw_surface": "angstrom",
    "esp": "hartree/e",
    "mono": "e",
    "dipole": "e*bohr",
    "quadrupole": "e*bohr^2",
    "atomic_dipoles": "e*bohr",
    "atomic_quadrupoles": "e*bohr^2",
    "atomic_octupoles": "e*bohr^3",
}


def with_moments(raw, rng):
    """Gives molecules of the sample random multipoles, in atomic units, that make their dipoles."""
    numbers, positions = raw["Z"], raw["R"] / BOHR
    grid = raw["vdw_surface"]
    real = numbers > 0
    charges = raw["mono"].reshape(numbers.shape) * real
    shape = numbers.shape
    left = raw["Dxyz"] - np.einsum("ma,max->mx", charges, positions * real[..., None])
    dipoles = 0.05 * rng.normal(size=(*shape, 3)) * real[..., None]
    share = (left - dipoles.sum(axis=1)) / real.sum(axis=1)[:, None]
    dipoles += share[:, None] * real[..., None]
    second = 0.08 * rng.normal(size=(*shape, 3, 3))
    second = (second + second.swapaxes(-1, -2) - 2 * np.eye(3)) * real[..., None, None]
    third = 0.4 * rng.normal(size=(*shape, 3))
    third = np.einsum("...i,...j,...k->...ijk", third, third, third) * real[..., None, None, None]
    esp = np.full(raw["esp"].shape, np.nan)
    for row in range(len(numbers)):
        here, n_grid = real[row], int(raw["n_grid"][row]) if "n_grid" in raw else grid.shape[1]
        esp[row, :n_grid] = multipole_potential(
            grid[row, :n_grid] / BOHR,
            positions[row][here],
            charges[row][here],
            dipoles[row][here],
            second[row][here],
            third[row][here],
        )
    placed = positions * real[..., None]
    mixed = np.einsum("max,may->mxy", placed, dipoles)
    return {
        "Z": numbers,
        "R": raw["R"],
        "esp": esp,
        "vdw_surface": grid.astype(np.float64),
        "mono": charges,
        "dipole": np.einsum("ma,max->mx", charges, placed) + dipoles.sum(axis=1),
        "quadrupole": np.einsum("ma,max,may->mxy", charges, placed, placed)
        + mixed
        + mixed.swapaxes(-1, -2)
        + second.sum(axis=1),
        "atomic_dipoles": dipoles,
        "atomic_quadrupoles": second,
        "atomic_octupoles": third,
        "units": np.array(json.dumps(UNITS)),
    }


def buckingham(moments):
    """Returns Buckingham's moments: (3 rr - r²) / 2, or (5 rrr - 3 r² r, symmetric) / 2."""
    if moments.ndim == 4:
        trace = np.trace(moments, axis1=-2, axis2=-1)[..., None, None]
        return 1.5 * moments - 0.5 * trace * np.eye(3)
    trace = np.einsum("...ijj->...i", moments)
    eye = np.eye(3)
    spread = (
        np.einsum("...i,jk->...ijk", trace, eye)
        + np.einsum("...j,ik->...ijk", trace, eye)
        + np.einsum("...k,ij->...ijk", trace, eye)
    )
    return 2.5 * moments - 0.5 * spread
