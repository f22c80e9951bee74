"""How sure a model is of a molecule: the spread of an ensemble's ESPs around it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Final

import numpy as np
from jaxtyping import Float
from scipy.spatial.distance import cdist
from scipy.spatial.transform import Rotation

from dcmnet.model.molecule import Structure
from dcmnet.prediction.charges import ChargedMolecule
from pipeline.chemistry.radii import van_der_waals_radii
from pipeline.chemistry.shells import SHELLS, spiral
from store_schema.units import HARTREE_IN_KCAL_PER_MOL

# Directions from each atom on each shell: with twice as many, the spread changes by 2 %.
_DIRECTIONS: Final = 32
_SEED: Final = 2026
# Part of a radius by which a point may seem to lie inside another sphere, for rounding.
_ROUNDING: Final = 1e-9


def esp_spread(members: Sequence[ChargedMolecule]) -> float:
    """Returns how far the members of an ensemble are apart in their ESP, kcal/mol/e.

    It is the standard deviation over members, as a root mean square over the surfaces of shells
    of 1.4 to 2.0 van der Waals radii.

    Args:
        members: Predictions of one molecule, at least two.
    """
    points, areas = _surface(members[0].structure)
    potentials = np.stack([member.esp(points) for member in members])
    variance = np.average(potentials.var(axis=0, ddof=1), weights=areas)
    return float(np.sqrt(variance) * HARTREE_IN_KCAL_PER_MOL)


def _surface(
    structure: Structure,
) -> tuple[Float[np.ndarray, "point 3"], Float[np.ndarray, " point"]]:
    """Returns points of the shells, in Å, and the area that each stands for."""
    radii, positions = van_der_waals_radii(structure.atomic_numbers), structure.positions
    points, areas = [], []
    for shell, directions in zip(SHELLS, _directions(), strict=True):
        reach = shell * radii
        own = (positions[:, None] + reach[:, None, None] * directions).reshape(-1, 3)
        outside = (cdist(own, positions) >= reach * (1 - _ROUNDING)).all(axis=1)
        points.append(own[outside])
        areas.append(np.repeat(reach**2, _DIRECTIONS)[outside])
    return np.concatenate(points), np.concatenate(areas)


@cache
def _directions() -> Float[np.ndarray, "shell direction 3"]:
    """Directions spread evenly, turned from shell to shell."""
    turns = Rotation.random(len(SHELLS), rng=np.random.default_rng(_SEED))
    return np.stack([turn.apply(spiral(_DIRECTIONS)) for turn in turns])
