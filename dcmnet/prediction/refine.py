"""Charges of one molecule refined against its own ESP."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from threadpoolctl import threadpool_limits

from dcmnet.prediction.charges import ChargedMolecule, potential_matrix
from pipeline.chemistry.fitted_charges import solve_charges
from store_schema.problems import ConfigError, SourceError
from store_schema.units import HARTREE_IN_KCAL_PER_MOL

# Strong enough that charges which the ESP cannot distinguish stay as predicted.
RESTRAINT = 1e-4
# Regular where charges lie in one place, and without effect on the fit elsewhere.
_LEAST_RESTRAINT = 1e-12


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

    Minimises |T q - V|² + w |q - q0|² subject to sum q = Q, where T holds potentials of unit
    charges and w is ``restraint`` times the mean of the diagonal of T'T
    (`pipeline.chemistry.fitted_charges`, solved for the change q - q0). As in RESP (Bayly et
    al., J. Phys. Chem. 97, 10269 (1993)) the restraint holds what the ESP leaves open.

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
            wrong=f"{restraint} is not 0 or more",
            consequence="nothing was refined",
            remedy="Give a number such as 1e-4",
        )
    points, reference = reference_of(molecule, esp, grid)
    matrix = potential_matrix(points, molecule.charge_positions)
    error = reference - matrix @ molecule.charges
    with threadpool_limits(1, user_api="blas"):  # systems are small; threads would only wait
        change = solve_charges(
            (matrix.T @ matrix)[None],
            (matrix.T @ error)[None],
            np.ones((1, len(molecule.charges)), bool),
            ridge=max(restraint, _LEAST_RESTRAINT),
            total=np.zeros(1),
        )
    refined = molecule.with_charges(molecule.charges + change[0])
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
        wrong="it has no reference ESP to refine against, or one that is not finite at every point",
        consequence="its charges cannot be refined",
        remedy="Give an NPZ file or a store with an ESP, or leave refining out",
    )


def _rmse(error: Float[np.ndarray, " g"]) -> float:
    return float(np.sqrt(np.mean(error**2)) * HARTREE_IN_KCAL_PER_MOL)
