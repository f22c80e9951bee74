"""The molecules of a run: opened from its store, checked against what is trained on."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Mapping

import numpy as np
from jaxtyping import Int

from dcmnet.config import ExperimentConfig
from dcmnet.training.epoch import Data
from pipeline import Store, make_loader, read_schema
from pipeline.loader.parts import WHOLE, Part
from store_schema.problems import TrainingError


def make_data(config: ExperimentConfig, part: Part = WHOLE) -> tuple[Data, Int[np.ndarray, " n"]]:
    """Opens the training and validation batches of an experiment.

    Args:
        config: Of the experiment.
        part: What this process takes of each.

    Returns:
        The batches, and the rows of the training molecules.

    Raises:
        TrainingError: There are no training molecules.
    """
    data, training = config.data, config.training
    _check_targets(config)
    common = functools.partial(
        make_loader,
        data.store,
        batch_size=training.batch_size,
        seed=training.seed,
        cutoff=config.model.cutoff,
        split_fractions=data.split_fractions,
        part=part,
    )
    train = common(
        split="train",
        num_epochs=None,
        grid_points=training.grid_points,
        max_molecules=data.num_train,
    )
    if not train.n_molecules:
        raise TrainingError.of(
            f"{data.store}, training split",
            expected="at least one molecule",
            received="none",
            consequence="there is nothing to train on",
            remedy="Ingest more molecules, or raise data.train_fraction",
        )
    valid = common(split="valid", shuffle=False, max_molecules=data.num_valid)
    sizes = {"train": train.n_molecules, "valid": valid.n_molecules}
    return Data(
        train=iter(train),
        batches_per_epoch=train.batches_per_epoch,
        padding_waste=train.padding_waste,
        valid=lambda: iter(valid),
        names=functools.partial(_names, data.store),
        notes=tuple(_notes(config, sizes)),
    ), train.plan.sizes.rows


def _notes(config: ExperimentConfig, sizes: Mapping[str, int]) -> Iterator[str]:
    for split, there in sizes.items():
        wanted = getattr(config.data, f"num_{split}")
        if there and wanted is not None and wanted > there:
            yield f"data.num_{split} is {wanted}, but there are {there}; all are taken"
    if not sizes["valid"]:
        yield (
            "There are no validation molecules: the training metrics, of parameters as they "
            "went along, decide which epoch is best"
        )


def _names(store: str, rows: Iterable[int]) -> list[str]:
    opened = Store.at(store)
    with opened.reading():
        ids = opened.tree().to_dataset()["molecule_id"].values
    return [str(ids[row]) for row in rows]


def _check_targets(config: ExperimentConfig) -> None:
    """Refuses to train on an ESP that the store does not have."""
    variables = read_schema(config.data.store).variables
    if config.training.esp_w and not {"esp", "vdw_surface"} <= set(variables):
        raise TrainingError.of(
            config.data.store,
            expected="an ESP and its grid, since training.esp_w is not 0",
            received=f"a store of {', '.join(variables)}",
            consequence="there is no ESP to train on",
            remedy="Ingest files with an ESP, or set training.esp_w=0",
        )
