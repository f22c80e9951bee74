"""Distributed charges of one molecule in double precision, and what they amount to."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import numpy.typing as npt
from jaxtyping import Float, Int

from dcmnet.model.molecule import Structure
from dcmnet.prediction.artefact_runner import with_total_charge
from store_schema.problems import SourceError
from store_schema.units import BOHR_IN_ANGSTROM

# Distances held at once, so that memory does not grow with the grid.
_DISTANCES = 2**22


@dataclass(frozen=True)
class ChargedMolecule:
    """A molecule with its distributed charges, which sum to its net charge.

    Atoms may have different numbers of charges, so the charges are a plain list.

    Attributes:
        structure: The molecule.
        charges: Charges in e, those of one atom together, in the order of the atoms.
        charge_positions: Their positions, angstrom.
        atom: Atom that each charge belongs to, from 0.
        uncertainty: RMS error to expect of its ESP, kcal/mol/e; None of one model alone.
    """

    structure: Structure
    charges: Float[np.ndarray, " k"]
    charge_positions: Float[np.ndarray, "k 3"]
    atom: Int[np.ndarray, " k"]
    uncertainty: float | None = None

    @classmethod
    def of_atoms(
        cls,
        structure: Structure,
        charges: Float[np.ndarray, "a d"],
        displacements: Float[np.ndarray, "a d 3"],
    ) -> Self:
        """Makes one of as many charges per atom.

        Args:
            structure: The molecule.
            charges: Charges in e; shifted equally so that their sum is exact in float64.
            displacements: From the nucleus to each charge, angstrom.
        """
        n_dcm = charges.shape[1]
        nuclei = np.repeat(structure.positions.astype(np.float64), n_dcm, axis=0)
        exact = with_total_charge(charges.astype(np.float64).ravel(), structure.total_charge)
        return cls(
            structure=structure,
            charges=exact,
            charge_positions=nuclei + displacements.reshape(-1, 3).astype(np.float64),
            atom=np.repeat(np.arange(structure.n_atoms), n_dcm),
        )

    def with_charges(self, charges: Float[np.ndarray, " k"]) -> ChargedMolecule:
        """Returns a copy with other charges at the same places, their sum made exact."""
        return replace(self, charges=with_total_charge(charges, self.structure.total_charge))

    @property
    def displacements(self) -> Float[np.ndarray, "k 3"]:
        """From the nucleus to each charge, angstrom."""
        return self.charge_positions - self.structure.positions[self.atom]

    @property
    def n_dcm(self) -> int:
        """Most charges that an atom has."""
        return int(np.bincount(self.atom, minlength=1).max())

    @property
    def monopoles(self) -> Float[np.ndarray, " a"]:
        """Sum of each atom's charges, e."""
        return np.bincount(self.atom, weights=self.charges, minlength=self.structure.n_atoms)

    @property
    def dipole(self) -> Float[np.ndarray, " 3"]:
        """Dipole about the origin, e*angstrom."""
        return np.asarray(self.charges @ self.charge_positions)

    def esp(self, points: npt.ArrayLike) -> Float[np.ndarray, " g"]:
        """Returns the electrostatic potential at points, in hartree/e.

        V(r) = sum_k q_k / |r - x_k| in atomic units.

        Args:
            points: Places (g, 3) in angstrom.

        Raises:
            SourceError: They are not rows of x, y and z.
        """
        points = np.asarray(points, np.float64)
        if points.shape != (len(points), 3):
            raise SourceError.of(
                f"{self.structure.place}, points",
                wrong=f"their shape is {points.shape}, not (points, 3)",
                consequence="there is no ESP at them",
                remedy="Give a row of x, y and z in angstrom for each point",
            )
        step = max(1, _DISTANCES // max(1, len(self.charges)))
        blocks = [points[start : start + step] for start in range(0, len(points), step)]
        return np.concatenate(
            [potential_matrix(block, self.charge_positions) @ self.charges for block in blocks]
            or [np.zeros(0)]
        )

    def padded(self, n_dcm: int) -> tuple[Float[np.ndarray, "a d"], Float[np.ndarray, "a d 3"]]:
        """Returns charges and positions atom by atom, NaN where an atom has fewer charges.

        Args:
            n_dcm: Width, at least that of this molecule.
        """
        first = np.searchsorted(self.atom, self.atom, side="left")
        place = (self.atom, np.arange(len(self.atom)) - first)
        charges = np.full((self.structure.n_atoms, n_dcm), np.nan)
        positions = np.full((*charges.shape, 3), np.nan)
        charges[place], positions[place] = self.charges, self.charge_positions
        return charges, positions


def potential_matrix(
    points: Float[np.ndarray, "g 3"], positions: Float[np.ndarray, "k 3"]
) -> Float[np.ndarray, "g k"]:
    """Returns the potential at each point of a unit charge at each position, in hartree/e^2.

    Args:
        points: Places in angstrom.
        positions: Of the charges, angstrom.
    """
    distance = np.linalg.norm(points[:, None] - positions, axis=-1)
    return np.asarray(BOHR_IN_ANGSTROM / distance)
