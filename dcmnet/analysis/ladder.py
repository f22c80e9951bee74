"""The ladder of references: what multipoles on the atoms of an order make of a molecule's ESP."""

from __future__ import annotations

from typing import Final

import numpy as np
import xarray as xr
from jaxtyping import Float, Int

from pipeline.chemistry.multipole_ladder import fitted_ladder
from pipeline.chemistry.multipoles import multipole_potential
from pipeline.store.base import readable
from store_schema import VARIABLES
from store_schema.names import ATOMIC_MOMENTS, MOLECULE
from store_schema.units import BOHR_IN_ANGSTROM, HARTREE_IN_KCAL_PER_MOL

# Of fitted charges and dipoles, of quadrupoles in addition, of the multipoles that the store has.
LADDER_COLUMNS: Final = (
    "esp_rmse_fitted_dipoles",
    "esp_rmse_fitted_quadrupoles",
    "esp_rmse_stored_multipoles",
)
_NEEDED: Final = ("n_atoms", "n_grid", "positions", "vdw_surface", "esp")


def ladder_rows(rows: Int[np.ndarray, " row"], most: int) -> Int[np.ndarray, " some"]:
    """Returns at most so many of the rows, evenly spread."""
    if len(rows) <= most:
        return rows
    return rows[np.linspace(0, len(rows) - 1, most).round().astype(int)]


def multipole_errors(
    molecules: xr.Dataset, rows: Int[np.ndarray, " row"]
) -> dict[str, Float[np.ndarray, " molecule"]]:
    """Fits multipoles to the ESP of some molecules, each by itself.

    Args:
        molecules: The store's root group.
        rows: Rows of the molecules.

    Returns:
        ESP RMSE in kcal/mol/e by name (``LADDER_COLUMNS``), of every row of the store; NaN of
        others than these, of molecules without an ESP, and where dipoles are not stored.
    """
    found = np.full((len(LADDER_COLUMNS), molecules.sizes[MOLECULE]), np.nan)
    if all(name in molecules for name in _NEEDED):
        with readable(molecules):
            for row in rows:
                found[:, row] = _of_molecule(molecules.isel({MOLECULE: int(row)}))
    return dict(zip(LADDER_COLUMNS, found * HARTREE_IN_KCAL_PER_MOL, strict=True))


def _of_molecule(molecule: xr.Dataset) -> tuple[float, float, float]:
    atoms, points = slice(int(molecule["n_atoms"])), slice(int(molecule["n_grid"]))
    grid = molecule["vdw_surface"].values[points].astype(np.float64)
    esp = molecule["esp"].values[points].astype(np.float64)
    if not np.isfinite(esp).any():
        return np.nan, np.nan, np.nan
    positions = molecule["positions"].values[atoms].astype(np.float64)
    charge = float(molecule["total_charge"]) if "total_charge" in molecule else np.nan
    fitted = fitted_ladder(positions, charge, grid, esp)
    stored = np.nan
    moments = _stored_moments(molecule, atoms)
    if len(moments) > 1:
        places = grid / BOHR_IN_ANGSTROM, positions / BOHR_IN_ANGSTROM
        potential = multipole_potential(*places, *moments)
        stored = float(np.sqrt(np.mean((potential - esp) ** 2)))
    return fitted.dipoles, fitted.quadrupoles, stored


def _stored_moments(molecule: xr.Dataset, atoms: slice) -> list[np.ndarray]:
    """Multipoles of a molecule's atoms by order, in atomic units, up to the first that is missing.

    A store of schema version 1 may have kept other arrays under their names.
    """
    found = []
    for order, name in enumerate(ATOMIC_MOMENTS):
        if name not in molecule or molecule[name].dims != VARIABLES[name].dims[1:]:
            break
        values = molecule[name].values[atoms].astype(np.float64)
        if not np.isfinite(values).all():
            break
        found.append(values / BOHR_IN_ANGSTROM**order)
    return found
