"""How charges follow the atoms: analytic derivatives of charges, dipole and ESP."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from dcmnet import model as networks
from dcmnet.model import Parameters
from dcmnet.model.molecule import Structure
from dcmnet.model.trained import TrainedModel
from dcmnet.prediction.charges import ChargedMolecule
from pipeline.loader import MoleculeBatch, make_batch
from store_schema.units import BOHR_IN_ANGSTROM, to_canonical

# (D/Å)^2/amu in km/mol: N_A / (12 eps0 c^2), as in E. B. Wilson, J. C. Decius, P. C. Cross,
# Molecular Vibrations, Dover 1980.
_DEBYE = to_canonical("debye", "dipole")
_KM_PER_MOL = 42.2561


@dataclass(frozen=True)
class ChargeDerivatives:
    """Charges of a molecule and their derivatives with respect to its atoms' positions.

    Attributes:
        molecule: The charges.
        charges: Derivatives of the charges, e/angstrom.
        places: Derivatives of their positions.
    """

    molecule: ChargedMolecule
    charges: Float[np.ndarray, "k a 3"]
    places: Float[np.ndarray, "k 3 a 3"]

    @property
    def monopoles(self) -> Float[np.ndarray, "b a 3"]:
        """Derivatives of each atom's sum of charges, e/angstrom."""
        found = np.zeros((self.molecule.structure.n_atoms, *self.charges.shape[1:]))
        np.add.at(found, self.molecule.atom, self.charges)
        return found

    @property
    def dipole(self) -> Float[np.ndarray, "3 a 3"]:
        """Derivatives of the dipole about the origin, e: the atomic polar tensors."""
        molecule = self.molecule
        of_charges = np.einsum("kax,kd->dax", self.charges, molecule.charge_positions)
        return of_charges + np.einsum("k,kdax->dax", molecule.charges, self.places)

    def esp(self, points: Float[np.ndarray, "g 3"]) -> Float[np.ndarray, "g a 3"]:
        """Returns the derivatives of the ESP at points that stay, hartree/e/angstrom.

        Args:
            points: Places in angstrom.
        """
        offset = points[:, None] - self.molecule.charge_positions
        inverse = 1 / np.linalg.norm(offset, axis=-1)
        of_charges = np.einsum("gk,kax->gax", inverse, self.charges)
        pull = offset * (self.molecule.charges * inverse**3)[..., None]
        of_places = np.einsum("gkd,kdax->gax", pull, self.places, optimize=True)
        return np.asarray(BOHR_IN_ANGSTROM * (of_charges + of_places))

    def infrared_intensities(
        self, modes: Float[np.ndarray, "mode a 3"]
    ) -> Float[np.ndarray, " mode"]:
        """Returns the intensities of normal modes in the double harmonic approximation, km/mol.

        Args:
            modes: Displacements per mass-weighted normal coordinate, 1/sqrt(amu): eigenvectors
                of the mass-weighted Hessian, each atom's divided by the root of its mass.
        """
        return infrared_intensities(self.dipole, modes)


def infrared_intensities(
    polar_tensors: Float[np.ndarray, "3 a 3"], modes: Float[np.ndarray, "mode a 3"]
) -> Float[np.ndarray, " mode"]:
    """Returns intensities in the double harmonic approximation, km/mol.

    Args:
        polar_tensors: Derivatives of the dipole by the positions, e.
        modes: As `ChargeDerivatives.infrared_intensities` takes them.
    """
    along = np.einsum("dax,max->md", polar_tensors, modes) / _DEBYE
    return np.asarray(_KM_PER_MOL * np.square(along).sum(axis=1))


def charge_derivatives(model: TrainedModel, structure: Structure) -> ChargeDerivatives:
    """Predicts a molecule and differentiates its charges.

    Args:
        model: The network.
        structure: The molecule, which ``Predictor.survey`` has nothing against.
    """
    fields: dict[str, Any] = {
        "atomic_numbers": structure.atomic_numbers,
        "positions": structure.centred,
        "total_charge": structure.total_charge,
    }
    batch = make_batch([fields], cutoff=model.config.cutoff)
    (charges, places), (of_charges, of_places) = jax.device_get(
        _differentiated(model.network, model.params, batch)
    )
    molecule = ChargedMolecule.of_atoms(structure, charges, places - batch.positions[0][:, None])
    atoms, k = structure.n_atoms, len(molecule.charges)
    return ChargeDerivatives(
        molecule,
        of_charges.reshape(k, atoms, 3).astype(np.float64),
        of_places.reshape(k, 3, atoms, 3).astype(np.float64),
    )


@functools.partial(jax.jit, static_argnums=0)
def _differentiated(network: networks.DCMNet, params: Parameters, batch: MoleculeBatch) -> Any:
    def charged(positions: Any) -> tuple[Float[Array, "a d"], Float[Array, "a d 3"]]:
        moved = batch._replace(positions=positions)
        charges, places = networks.distributed_charges(network, params, moved)
        return charges[0], places[0]

    positions = jnp.asarray(batch.positions)
    return charged(positions), jax.jacrev(charged)(positions)
