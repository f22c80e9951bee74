"""How sure a model is of a molecule: the spread of an ensemble's ESPs around it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from dcmnet.prediction.charges import ChargedMolecule
from pipeline.reference.shells import shell_points
from store_schema.units import HARTREE_IN_KCAL_PER_MOL

# Points around a molecule: with twice as many, the spread changes by 2 %.
_POINTS: Final = 256
_SEED: Final = 2026


def esp_spread(members: Sequence[ChargedMolecule]) -> float:
    """Returns how far the members of an ensemble are apart in their ESP, kcal/mol/e.

    It is the standard deviation over members, as a root mean square over points on shells of
    1.4 to 2.0 van der Waals radii.

    Args:
        members: Predictions of one molecule, at least two.
    """
    structure = members[0].structure
    rng = np.random.default_rng(_SEED)
    points = shell_points(structure.atomic_numbers, structure.positions, _POINTS, rng)
    potentials = np.stack([member.esp(points) for member in members])
    return float(np.sqrt(potentials.var(axis=0, ddof=1).mean()) * HARTREE_IN_KCAL_PER_MOL)
