"""Ions of one atom, whose ESP is that of a point charge."""

from __future__ import annotations

import numpy as np
import xarray as xr

# Atomic number, charge, and radius in Å (van der Waals).
IONS = ((3, 1, 1.82), (11, 1, 2.27), (9, -1, 1.47), (17, -1, 1.75))
SHELLS = (1.4, 1.6, 1.8, 2.0)
POINTS = 120
BOHR = 0.529177210903


def with_lone_ions(records: xr.Dataset, rng: np.random.Generator, copies: int = 10) -> xr.Dataset:
    """The records, and lone ions at random places behind them."""
    n = copies * len(IONS)
    empty = records.isel(molecule=np.zeros(n, int)).copy(deep=True)
    for values in empty.variables.values():
        if values.dtype.kind == "f":
            values[...] = np.nan
    sphere = rng.normal(size=(POINTS, 3))
    sphere /= np.linalg.norm(sphere, axis=1, keepdims=True)
    for row in range(n):
        number, charge, radius = IONS[row % len(IONS)]
        place = rng.normal(size=3)
        grid = np.concatenate([place + radius * shell * sphere for shell in SHELLS])
        distance = np.linalg.norm(grid - place, axis=1)
        empty.atomic_numbers[row] = 0
        empty.atomic_numbers[row, 0] = number
        empty.positions[row, 0] = place
        empty.monopoles[row, 0] = charge
        empty.vdw_surface[row, : len(grid)] = grid
        empty.esp[row, : len(grid)] = charge * BOHR / distance
        empty.dipole[row] = charge * place
        empty.quadrupole[row] = charge * np.outer(place, place)
        empty.total_charge[row] = charge
        empty.n_atoms[row], empty.n_grid[row] = 1, len(grid)
    return xr.concat([records, empty], dim="molecule")
