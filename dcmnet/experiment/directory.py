"""An experiment on disk: where its parts lie, and the trained model in it."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np
from jaxtyping import Float, Int

from dcmnet.config import ExperimentConfig, load_config
from dcmnet.experiment.checkpoints import Checkpoints
from dcmnet.experiment.metrics import EpochRecord, MetricsFile
from dcmnet.experiment.seen_elements import elements_of_bias, seen_elements
from dcmnet.model import DCMNet, Parameters, create_model, distributed_charges
from dcmnet.model.compilation_cache import use_compilation_cache
from dcmnet.model.initialization import parameter_shapes
from dcmnet.model.molecule import Structure, problems_of, symbols_of
from dcmnet.model.published import read_published
from pipeline.loader import make_batch
from store_schema.problems import CheckpointError, SourceError


class Experiment:
    """The directory of an experiment.

    Attributes:
        directory: Where it lies.
    """

    def __init__(self, directory: str | Path) -> None:
        self.directory = Path(directory)

    @property
    def config_path(self) -> Path:
        """The configuration, everything needed to run it again."""
        return self.directory / "config.json"

    @property
    def checkpoints_path(self) -> Path:
        """The checkpoints."""
        return self.directory / "checkpoints"

    @property
    def metrics_path(self) -> Path:
        """One line per epoch."""
        return self.directory / "metrics.jsonl"

    @property
    def tensorboard_path(self) -> Path:
        """The event files of TensorBoard."""
        return self.directory / "tensorboard"

    @property
    def analysis_path(self) -> Path:
        """What analyses write in addition to the store's results."""
        return self.directory / "analysis"

    def config(self) -> ExperimentConfig:
        """Reads the configuration.

        Raises:
            ConfigError: It is missing or not valid.
        """
        return load_config(self.config_path)

    def history(self) -> list[EpochRecord]:
        """Reads the epochs so far."""
        return MetricsFile(self.metrics_path).read()


class TrainedModel:
    """A network with its parameters.

    Attributes:
        network: The Flax module.
        params: Its parameter tree.
        checkpoint: Checkpoint they came from.
        epoch: Epoch of that checkpoint.
        name: How messages name the model.
        elements: Atomic numbers of its training data, None where they are not on record.
    """

    def __init__(
        self,
        network: DCMNet,
        params: Parameters,
        checkpoint: str = "",
        epoch: int = 0,
        *,
        name: str = "the model",
        elements: frozenset[int] | None = None,
    ) -> None:
        self.network = network
        self.params = params
        self.checkpoint = checkpoint
        self.epoch = epoch
        self.name = name
        self.elements = elements
        self._charges = jax.jit(functools.partial(distributed_charges, network))

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
        problems = problems_of(structure, self.network.max_atomic_number)
        if problems:
            raise SourceError(problems)
        unseen = set(structure.atomic_numbers.tolist()) - (self.elements or frozenset())
        if unseen and self.elements is not None:
            warnings.warn(
                f"{self.name} has not seen {symbols_of(unseen)} in training", stacklevel=2
            )
        molecule = {
            "atomic_numbers": structure.atomic_numbers,
            "positions": structure.positions,
            "total_charge": total_charge,
        }
        batch = make_batch([molecule], cutoff=self.network.cutoff)
        charges, charge_positions = self._charges(self.params, batch)
        return np.asarray(charges[0]), np.asarray(charge_positions[0])


def load_model(source: str | Path, checkpoint: str = "best") -> TrainedModel:
    """Loads a trained network.

    Args:
        source: Directory of an experiment, or a published ``.pkl``.
        checkpoint: ``best``, ``latest`` or ``epoch_N`` of the experiment.

    Raises:
        CheckpointError: There is no such checkpoint, or it does not fit.
        ConfigError: The experiment's configuration is missing or not valid.
    """
    use_compilation_cache()
    path = Path(source)
    if path.suffix == ".pkl":
        published, params = read_published(path)
        bias = np.asarray(params["params"]["charge_head"]["element_bias"])
        return TrainedModel(
            create_model(published),
            params,
            checkpoint=path.name,
            name=path.name,
            elements=elements_of_bias(bias),
        )
    experiment = Experiment(path)
    config = experiment.config()
    network = create_model(config.model)
    if not experiment.checkpoints_path.is_dir():
        raise CheckpointError.of(
            str(path),
            expected="an experiment with checkpoints",
            received="none",
            consequence="there are no parameters to predict with",
            remedy="Train it first, or give the directory of another experiment",
        )
    with Checkpoints(experiment.checkpoints_path, read_only=True) as checkpoints:
        params, progress = checkpoints.restore_model(checkpoint, parameter_shapes(network))
    return TrainedModel(
        network,
        params,
        checkpoint,
        progress.epoch,
        name=f"{config.name}/{checkpoint}",
        elements=seen_elements(path, config),
    )
