"""How far electric fields are those of the charges that explain the ESP."""

from __future__ import annotations

from typing import Final

import numpy as np
from jaxtyping import Float

from pipeline.chemistry.arrays import Atoms, Grid, finite_rows
from pipeline.chemistry.fitted_charges import FittedCharges
from pipeline.chemistry.multipoles import multipole_field
from store_schema.units import BOHR_IN_ANGSTROM

# Part of an ESP that charges may leave and still have a field worth comparing.
_EXPLAINED: Final = 0.3


def field_agreement(
    given: Float[np.ndarray, "molecule point 3"], atoms: Atoms, grid: Grid, fit: FittedCharges
) -> tuple[Float[np.ndarray, " molecule"], Float[np.ndarray, " molecule"]]:
    """Compares fields with those of fitted charges at the same points.

    Args:
        given: Fields, hartree/e/bohr.
        atoms: Atoms, in Å.
        grid: Their points, in Å.
        fit: Charges that explain the ESP.

    Returns:
        Correlation of the two, and how many times as large the given one is; NaN where charges
        explain too little, or there is nothing to compare.
    """
    correlation, size = np.full((2, len(given)), np.nan)
    for row in np.flatnonzero(fit.residual < _EXPLAINED):
        points = np.isfinite(given[row]).all(axis=-1) & finite_rows(grid.points[row])
        real, own = atoms.mask[row], given[row, points].astype(np.float64)
        expected = multipole_field(
            grid.points[row, points] / BOHR_IN_ANGSTROM,
            atoms.positions[row][real] / BOHR_IN_ANGSTROM,
            fit.charges[row][real],
        )
        there, wanted = np.linalg.norm(own), np.linalg.norm(expected)
        if wanted > 0:
            size[row] = there / wanted
            correlation[row] = (expected * own).sum() / (there * wanted) if there > 0 else 0.0
    return correlation, size
