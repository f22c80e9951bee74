"""What a calculation of one molecule gives, in atomic units, whatever made it."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np
from jaxtyping import Float

from pipeline.reference.mbis import AtomicMultipoles
from pipeline.structures import Geometry


class Calculated(NamedTuple):
    """Properties of one molecule, in atomic units; about the origin of its positions.

    Attributes:
        energy: Total energy.
        esp: ESP at the points that were asked for.
        dipole: Dipole.
        quadrupole: Second moment of the charge, Σ q r r, not traceless; None where the method
            has none.
        atomic: Multipoles of its atoms.
        forces: Forces, where they were asked for.
    """

    energy: float
    esp: Float[np.ndarray, " point"]
    dipole: Float[np.ndarray, " 3"]
    quadrupole: Float[np.ndarray, "3 3"] | None
    atomic: AtomicMultipoles
    forces: Float[np.ndarray, "atom 3"] | None


class Method(Protocol):
    """A level of theory."""

    @property
    def level(self) -> str:
        """Name of the level."""
        ...

    def __call__(
        self, geometry: Geometry, points: Float[np.ndarray, "point 3"], forces: bool
    ) -> Calculated:
        """Calculates one molecule.

        Args:
            geometry: The molecule.
            points: Where its ESP is wanted, in Å.
            forces: Whether its forces are wanted, too.

        Raises:
            CalculationError: The method has no answer.
        """
        ...


class CalculationError(Exception):
    """A calculation did not end in an answer; its text says why."""
