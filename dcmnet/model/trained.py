"""A network with its parameters, ready to predict."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Sequence

import jax
import numpy as np
from jaxtyping import Float, Int

from dcmnet import model as networks
from dcmnet.config import ModelConfig
from dcmnet.model import Parameters
from dcmnet.model.calibration import Calibration
from dcmnet.model.domain import Domain
from dcmnet.model.molecule import Structure, problems_of
from dcmnet.model.program import charges_program
from pipeline.loader import make_batch
from store_schema.problems import SourceError


def stacked(members: Sequence[Parameters]) -> Parameters:
    """Returns the parameters of several networks of a kind as one tree, member first."""
    return jax.tree.map(lambda *arrays: np.stack(arrays), *members)


class TrainedModel:
    """A network with its parameters.

    Attributes:
        config: The network.
        params: Its parameter tree.
        checkpoint: Checkpoint they came from.
        epoch: Epoch of that checkpoint.
        name: How messages name the model.
        domain: What it has seen in training, as far as that is on record.
        ensemble: Parameters of models trained like it, by which its uncertainty is estimated;
            empty where there are none.
        calibration: What the spread of the ensemble means; None where nobody measured it.
    """

    def __init__(
        self,
        config: ModelConfig,
        params: Parameters,
        checkpoint: str = "",
        epoch: int = 0,
        *,
        name: str = "the model",
        domain: Domain | None = None,
        ensemble: Sequence[Parameters] = (),
        calibration: Calibration | None = None,
    ) -> None:
        self.config = config
        self.params = params
        self.checkpoint = checkpoint
        self.epoch = epoch
        self.name = name
        self.domain = domain or Domain()
        self.ensemble = tuple(ensemble)
        self.calibration = calibration

    @functools.cached_property
    def network(self) -> networks.DCMNet:
        """The Flax module."""
        return networks.create_model(self.config)

    @property
    def calibration_factor(self) -> float:
        """What the spread of the ensemble is multiplied by to give the error to expect."""
        return self.calibration.factor if self.calibration else 1.0

    @property
    def uncertainty_limit(self) -> float | None:
        """Largest error to expect that tests back; None where nobody measured it."""
        return self.calibration.limit if self.calibration else None

    @property
    def elements(self) -> frozenset[int] | None:
        """Atomic numbers of its training data, None where they are not on record."""
        return self.domain.elements

    def predict(
        self,
        atomic_numbers: Int[np.ndarray, " A"] | Sequence[float],
        positions: Float[np.ndarray, "A 3"] | Sequence[Sequence[float]],
        total_charge: float = 0.0,
    ) -> tuple[Float[np.ndarray, "A D"], Float[np.ndarray, "A D 3"]]:
        """Predicts the distributed charges of one molecule.

        Args:
            atomic_numbers: Atomic numbers.
            positions: Nuclear positions, angstrom.
            total_charge: Net charge, e; the charges sum to it.

        Returns:
            Charges in e and their positions in angstrom.

        Raises:
            SourceError: There is no atom, an atom has no place or that of another, an
                atomic number is not one that the network can embed, or the total charge
                is not finite.
        """
        structure = Structure.of_arrays(atomic_numbers, positions, total_charge)
        problems = problems_of(structure, self.config.max_atomic_number)
        if problems:
            raise SourceError(problems)
        for beyond in Domain.of(structure).beyond(self.domain):
            warnings.warn(
                f"{self.name} has not seen {beyond.new} in training: {beyond.consequence}",
                stacklevel=2,
            )
        molecule = {
            "atomic_numbers": structure.atomic_numbers,
            "positions": structure.positions,
            "total_charge": total_charge,
        }
        batch = make_batch([molecule], cutoff=self.config.cutoff)
        charges, charge_positions = charges_program(self.config, self.params)(self.params, batch)
        return np.asarray(charges[0]), np.asarray(charge_positions[0])
