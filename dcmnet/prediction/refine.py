"""Charges of one molecule refined against its own ESP."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.linalg import lstsq, null_space
from threadpoolctl import threadpool_limits

from dcmnet.prediction.charges import ChargedMolecule, potential_matrix
from store_schema.problems import ConfigError, SourceError
from store_schema.units import HARTREE_IN_KCAL_PER_MOL

# Strong enough that charges which the ESP cannot distinguish stay as predicted.
RESTRAINT = 1e-4


class Refinement(NamedTuple):
    """Charges that were refined, and what it was worth.

    Attributes:
        molecule: The molecule with its new charges; their positions are as they were.
        rmse_before: Of the predicted charges' ESP, kcal/mol/e.
        rmse_after: Of the refined charges' ESP, kcal/mol/e; never larger.
    """

    molecule: ChargedMolecule
    rmse_before: float
    rmse_after: float


def refine_charges(
    molecule: ChargedMolecule,
    esp: Float[np.ndarray, " g"] | None = None,
    grid: Float[np.ndarray, "points 3"] | None = None,
    restraint: float = RESTRAINT,
) -> Refinement:
    """Fits charges to a reference ESP where they are, near what was predicted.

    Minimises |A q - V|^2 + w |q - q0|^2 subject to sum q = Q, where A holds inverse
    distances and w is ``restraint`` times the mean of the diagonal of A^T A. Written in
    q = q0 + Z y, with Z a basis of the changes that keep the sum, it is an ordinary
    least-squares problem, which is solved in double precision. As in RESP (Bayly et al.,
    J. Phys. Chem. 97, 10269 (1993)) the restraint holds what the ESP leaves open.

    Args:
        molecule: With predicted charges q0.
        esp: Reference ESP in hartree/e; that of the structure where left out.
        grid: Its points in angstrom; likewise.
        restraint: 0 for the best fit there is; the larger, the nearer to the prediction.

    Raises:
        SourceError: There is no ESP, or it is not finite.
        ConfigError: The restraint is negative or not finite.
    """
    if not (np.isfinite(restraint) and restraint >= 0):
        raise ConfigError.of(
            "refine, restraint",
            expected="0 or more",
            received=str(restraint),
            consequence="nothing was refined",
            remedy="Give a number such as 1e-4",
        )
    points, reference = reference_of(molecule, esp, grid)
    matrix = potential_matrix(points, molecule.charge_positions)
    error = reference - matrix @ molecule.charges
    count = len(molecule.charges)
    basis = null_space(np.ones((1, count)))
    weight = np.sqrt(restraint * np.mean(np.sum(matrix**2, axis=0)))
    with threadpool_limits(1, user_api="blas"):  # systems are small; threads would only wait
        change, *_ = lstsq(
            np.concatenate([matrix @ basis, weight * basis]),
            np.concatenate([error, np.zeros(count)]),
            lapack_driver="gelsy",
        )
    refined = molecule.with_charges(molecule.charges + basis @ change)
    return Refinement(refined, _rmse(error), _rmse(reference - matrix @ refined.charges))


def reference_of(
    molecule: ChargedMolecule,
    esp: Float[np.ndarray, " g"] | None = None,
    grid: Float[np.ndarray, "points 3"] | None = None,
) -> tuple[Float[np.ndarray, "g 3"], Float[np.ndarray, " g"]]:
    """Returns the points and values of the ESP to refine against, in angstrom and hartree/e.

    Args:
        molecule: The molecule.
        esp: Reference ESP; that of the structure where left out.
        grid: Its points; likewise.

    Raises:
        SourceError: There is none, or it is not finite.
    """
    structure = molecule.structure
    esp = structure.esp if esp is None else esp
    grid = structure.grid if grid is None else grid
    if esp is not None and grid is not None and len(esp) == len(grid) > 0:
        reference, points = np.asarray(esp, np.float64), np.asarray(grid, np.float64)
        if np.isfinite(reference).all() and np.isfinite(points).all():
            return points, reference
    raise SourceError.of(
        structure.place,
        expected="a reference ESP with its grid to refine against",
        received="none, or one that is not finite at every point",
        consequence="its charges cannot be refined",
        remedy="Give an NPZ file or a store with an ESP, or leave refining out",
    )


def _rmse(error: Float[np.ndarray, " g"]) -> float:
    return float(np.sqrt(np.mean(error**2)) * HARTREE_IN_KCAL_PER_MOL)
