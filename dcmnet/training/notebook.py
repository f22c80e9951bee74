"""``train_model`` as notebooks call it: a thin front over ``run_training``."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PRNGKeyArray

from dcmnet.config import ExperimentConfig, ModelConfig, parse
from dcmnet.data import store_of
from dcmnet.experiment import Experiment
from dcmnet.model import DCMNet, Parameters
from dcmnet.train_runner import run_training
from store_schema.problems import ConfigError


class ScalarWriter(Protocol):
    """What a TensorBoard writer offers for numbers."""

    def add_scalar(self, tag: str, scalar_value: float, global_step: int) -> Any:
        """Writes a number."""


def train_model(
    key: PRNGKeyArray,
    model: DCMNet,
    train_data: Mapping[str, np.ndarray],
    valid_data: Mapping[str, np.ndarray],
    num_epochs: int,
    learning_rate: float = 1e-3,
    batch_size: int = 16,
    writer: ScalarWriter | None = None,
    ndcm: int | None = None,
    **fields: object,
) -> tuple[Parameters, float]:
    """Trains a network on datasets in memory.

    Args:
        key: JAX key; it seeds the parameters and the order of molecules.
        model: The network.
        train_data: Training molecules, as ``prepare_datasets`` returns them.
        valid_data: Validation molecules.
        num_epochs: Passes over the training molecules.
        learning_rate: Peak learning rate.
        batch_size: Molecules a batch.
        writer: Takes the metrics of every epoch.
        ndcm: Charges an atom; must be those of the model.
        **fields: Any other field of the training configuration, such as ``esp_w``,
            ``chg_w``, ``use_grad_clip`` or ``grad_clip_norm``.

    Returns:
        Parameters of the best epoch and its validation ESP RMSE in kcal/mol/e.

    Raises:
        ConfigError: A field is unknown, or ``ndcm`` is not the model's.
        SourceError: A dataset's arrays do not fit their names.
        TrainingError: The loss is not finite.
    """
    if ndcm is not None and ndcm != model.n_dcm:
        raise ConfigError.of(
            "train_model, ndcm",
            expected=f"the model's n_dcm, {model.n_dcm}",
            received=str(ndcm),
            consequence="nothing was started",
            remedy="Leave ndcm out, or make the model with create_model(n_dcm=...)",
        )
    wanted = {name: getattr(model, name) for name in ModelConfig.model_fields}
    config = ExperimentConfig(model=parse(ModelConfig, wanted))
    given: dict[str, Any] = {
        "num_epochs": num_epochs,
        "learning_rate": learning_rate,
        "batch_size": batch_size,
        "seed": int(jax.random.randint(key, (), 0, np.iinfo(np.int32).max)),
        "save_every_n_epochs": 0,
    }
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder) / "molecules.zarr"
        store_of(train_data, valid_data, store)
        params, loss, directory = run_training(
            "notebook", store, config=config, out=folder, **(given | fields)
        )
        if writer is not None:
            _write_history(Experiment(directory), writer)
    return jax.tree.map(jnp.asarray, params), loss


def _write_history(experiment: Experiment, writer: ScalarWriter) -> None:
    for record in experiment.history():
        for part in ("train", "valid"):
            for name, value in getattr(record, part).items():
                writer.add_scalar(f"{part}/{name}", value, record.epoch)
