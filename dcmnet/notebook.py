"""``train_model`` as notebooks call it: a thin front over ``run_training``."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PRNGKeyArray

from dcmnet.config import ExperimentConfig, ModelConfig
from dcmnet.config_fields import parse
from dcmnet.data import store_of
from dcmnet.model import DCMNet, Parameters
from dcmnet.tracking.tensorboard import ScalarWriter
from dcmnet.train_runner import run_training
from store_schema.problems import ConfigError


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
        batch_size: Molecules per batch.
        writer: A TensorBoard ``SummaryWriter``, or what has its ``add_scalar``; takes the
            metrics of every epoch, and histograms and figures where it can.
        ndcm: Charges per atom; must be those of the model.
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
            wrong=f"ndcm is {ndcm}, but the model's n_dcm is {model.n_dcm}",
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
        # Event files would go with the temporary folder.
        **({"summary_every_n_epochs": 0} if writer is None else {}),
    }
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder) / "molecules.zarr"
        store_of(train_data, valid_data, store)
        params, loss, _ = run_training(
            "notebook", store, config=config, out=folder, writer=writer, **(given | fields)
        )
    return jax.tree.map(jnp.asarray, params), loss
