"""An experiment on disk: where its parts lie, and how its model, or another, is loaded."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from dcmnet.config import ExperimentConfig, ModelConfig, load_config
from dcmnet.experiment.metrics import EpochRecord, MetricsFile
from dcmnet.model.compilation import set_up_compilation
from dcmnet.model.domain import Domain, elements_of_bias
from dcmnet.model.initialization import parameter_shapes
from dcmnet.model.published import read_published
from dcmnet.model.trained import TrainedModel
from dcmnet.pretrained import is_pretrained, load_pretrained, pretrained_names, read_card
from store_schema.problems import CheckpointError, ConfigError


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
            ConfigError: There is no experiment, or its configuration is not valid.
        """
        if not self.directory.is_dir():
            raise self._missing()
        return load_config(self.config_path)

    def _missing(self) -> ConfigError:
        names = pretrained_names()
        is_model = str(self.directory) in names
        return ConfigError.of(
            str(self.directory),
            wrong="this is a model in the box, not an experiment"
            if is_model
            else f"there is no experiment here, and no model in the box ({', '.join(names)})",
            consequence="nothing was started",
            remedy=f"Measure it on your data: 'dcmnet analyze {self.directory} --store STORE'"
            if is_model
            else "Check the name; 'dcmnet train' makes experiments",
        )

    def history(self) -> list[EpochRecord]:
        """Reads the epochs so far."""
        return MetricsFile(self.metrics_path).read()


def experiment_config(source: str | Path) -> ExperimentConfig:
    """Returns the configuration of an experiment, or one that has a model of the box.

    Args:
        source: Directory of an experiment, or a model in the box, which names no store.

    Raises:
        CheckpointError: The card of the model is damaged.
        ConfigError: The experiment's configuration is missing or not valid.
    """
    if is_pretrained(source):
        card = read_card(str(source))
        return ExperimentConfig(name=card.name, model=card.model)
    return Experiment(source).config()


def model_config(source: str | Path) -> ModelConfig:
    """Returns the configuration of a model's network, without its parameters.

    Args:
        source: As for ``load_model``.

    Raises:
        CheckpointError: It is neither an experiment nor a model.
        ConfigError: The experiment's configuration is missing or not valid.
    """
    if Path(source).suffix == ".pkl":
        return read_published(source)[0]
    return experiment_config(source).model


def load_model(source: str | Path, checkpoint: str = "best") -> TrainedModel:
    """Loads a trained network.

    Args:
        source: Directory of an experiment, a model in the box such as ``dcm2`` (a folder
            of that name is ``./dcm2``, as text), or a published ``.pkl``.
        checkpoint: ``best``, ``latest`` or ``epoch_N`` of the experiment.

    Raises:
        CheckpointError: There is no such checkpoint, or it does not fit.
        ConfigError: The experiment's configuration is missing or not valid.
    """
    set_up_compilation()
    path = Path(source)
    if is_pretrained(source):
        if checkpoint != "best":
            raise CheckpointError.of(
                str(source),
                wrong=f"a model in the box has no checkpoint {checkpoint!r}",
                consequence="no model was loaded",
                remedy="Leave the checkpoint out, or name an experiment",
            )
        return load_pretrained(str(source))
    if path.suffix == ".pkl":
        published, params = read_published(path)
        bias = np.asarray(params["params"]["charge_head"]["element_bias"])
        return TrainedModel(
            published,
            params,
            checkpoint=path.name,
            name=path.name,
            domain=Domain(elements_of_bias(bias)),
        )
    experiment = Experiment(path)
    config = experiment.config()
    if not experiment.checkpoints_path.is_dir():
        raise CheckpointError.of(
            str(path),
            wrong="there is no experiment with checkpoints here",
            consequence="there are no parameters to predict with",
            remedy="Train it first, or give the directory of another experiment",
        )
    # Orbax and Zarr take a second, which the models in the box need not wait for.
    from dcmnet.experiment.checkpoints import Checkpoints
    from dcmnet.experiment.seen_elements import seen_elements

    with Checkpoints(experiment.checkpoints_path, read_only=True) as checkpoints:
        params, progress = checkpoints.restore_model(checkpoint, parameter_shapes(config.model))
    return TrainedModel(
        config.model,
        params,
        checkpoint,
        progress.epoch,
        name=f"{config.name}/{checkpoint}",
        domain=Domain(seen_elements(path, config)),
    )
