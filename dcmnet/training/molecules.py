"""The molecules of a run: opened from its stores, checked against what is trained on."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final, NamedTuple

import numpy as np
from jaxtyping import Int

from dcmnet.config import ExperimentConfig
from dcmnet.training.epoch import Data
from pipeline import Store, make_loader, read_schema
from pipeline.loader import BatchDataset, MixedDataset, MoleculeBatch
from pipeline.loader.batch import TARGETS
from pipeline.loader.parts import WHOLE, Part
from pipeline.loader.shapes import likely_elsewhere
from pipeline.store.splits import conformers_are_split
from store_schema.problems import TrainingError


def make_data(config: ExperimentConfig, part: Part = WHOLE) -> tuple[Data, Int[np.ndarray, " n"]]:
    """Opens the training and validation batches of an experiment.

    Args:
        config: Of the experiment.
        part: What this process takes of each.

    Returns:
        The batches, and the rows of the training molecules in the first store.

    Raises:
        TrainingError: A store has no training molecules, or lacks what is trained on.
    """
    data = config.data
    loaders = {store: _loaders(store, config, part) for store in data.stores}
    first, *others = loaders.values()
    sizes = [read_schema(store).n_molecules for store in loaders]
    train: BatchDataset | MixedDataset = first.train
    if others:
        ratio = data.ratio or (1.0,) * len(loaders)
        train = MixedDataset([each.train for each in loaders.values()], ratio, sizes)
    notes = [note for store, each in loaders.items() for note in _notes(store, config, each)]
    passes = {store: _passes(each.valid) for store, each in loaders.items()}
    return Data(
        train=train.__iter__(),
        batches_per_epoch=train.batches_per_epoch,
        batches_per_update=first.per_update * config.training.gradient_accumulation_steps,
        padding_waste=train.padding_waste,
        valid=passes.pop(data.store),
        valid_of_others={s: make for s, make in passes.items() if loaders[s].valid.n_molecules},
        names=functools.partial(_names, data.stores, sizes),
        notes=tuple(notes),
    ), first.train.plan.sizes.rows


# Validation molecules that are held in memory: to read few anew takes longer than to predict them.
_HELD: Final = 256
# Validation computes a thirtieth of an epoch: what few shapes waste is less than compiling
# more. The last of them is for batches of very many pairs.
_VALIDATION_SHAPES: Final = 3
# Batches of like-sized molecules that an epoch shall have: one or two would hold molecules of
# all sizes, and a quarter of them would be padding.
_LEAST_BATCHES: Final = 3
# Molecules of a part at least; below, a step takes longer per molecule than padding would.
_LEAST_MOLECULES: Final = 16


class _Loaders(NamedTuple):
    """Of one store.

    Attributes:
        train: Training batches.
        valid: Validation batches.
        per_update: Training batches that make up a batch of the configuration.
    """

    train: BatchDataset
    valid: BatchDataset
    per_update: int


def _loaders(store: str, config: ExperimentConfig, part: Part) -> _Loaders:
    data, training = config.data, config.training
    _check_targets(store, config)
    common = functools.partial(
        make_loader,
        store,
        seed=training.seed,
        cutoff=config.model.cutoff,
        split_fractions=data.split_fractions,
        part=part,
        passes=training.num_epochs,
        # A field is three times as large as the ESP, and read where it is trained on.
        fields=[n for n in TARGETS if n != "electric_field" or training.field_w],
    )
    make_train = functools.partial(
        common,
        split="train",
        num_epochs=None,
        grid_points=training.grid_points,
        max_molecules=data.num_train,
    )
    train, per_update = make_train(batch_size=training.batch_size), 1
    if train.n_molecules and not data.more_stores:  # whose batches a ratio counts
        per_update = _parts_of_a_batch(train.batches_per_epoch, train.n_molecules)
    if per_update > 1:
        parts = per_update * train.batches_per_epoch
        train = make_train(batch_size=-(-train.n_molecules // parts))
    if not train.n_molecules:
        raise TrainingError.of(
            f"{store}, training split",
            wrong="the training split has no molecules",
            consequence="there is nothing to train on",
            remedy="Ingest more molecules, or raise data.train_fraction",
        )
    valid = common(
        split="valid",
        batch_size=training.batch_size,
        shuffle=False,
        max_molecules=data.num_valid,
        max_shapes=_VALIDATION_SHAPES,
    )
    shapes = likely_elsewhere(valid.plan.shapes, training.batch_size)
    return _Loaders(train, valid.with_shapes(shapes), per_update)


def _passes(valid: BatchDataset) -> Callable[[], Iterator[MoleculeBatch]]:
    """Returns what makes a pass over validation batches."""
    if valid.n_molecules > _HELD:
        return functools.partial(iter, valid)
    held = functools.cache(lambda: tuple(valid))
    return lambda: iter(held())


def _parts_of_a_batch(batches: int, n_molecules: int) -> int:
    """Returns into how many parts to divide each batch of an epoch of few."""
    most = max(1, n_molecules // (batches * _LEAST_MOLECULES))
    return min(most, -(-_LEAST_BATCHES // batches))


def _notes(store: str, config: ExperimentConfig, loaders: _Loaders) -> Iterator[str]:
    several = f" in {store}" if config.data.more_stores else ""
    for split, loader in (("train", loaders.train), ("valid", loaders.valid)):
        wanted, there = getattr(config.data, f"num_{split}"), loader.n_molecules
        if there and wanted is not None and wanted > there:
            yield f"data.num_{split} is {wanted}, but there are {there}{several}; all are taken"
    if conformers_are_split(store):
        yield (
            f"{Store.at(store)} has geometries of so few molecules that each geometry is split by "
            "itself: validation is on other geometries of the same molecules"
        )
    if not loaders.valid.n_molecules and store == config.data.store:
        yield (
            "There are no validation molecules: the training metrics, of parameters as they "
            "went along, decide which epoch is best"
        )


def _names(stores: Sequence[str], sizes: Sequence[int], rows: Iterable[int]) -> list[str]:
    """Names of molecules whose rows are counted through all stores."""
    ends = np.cumsum(sizes)
    names = []
    for row in rows:
        which = int(np.searchsorted(ends, row, side="right"))
        opened = Store.at(stores[which])
        with opened.reading():
            ids = opened.tree().to_dataset()["molecule_id"].values
        name = str(ids[row - (ends[which] - sizes[which])])
        names.append(name if len(stores) == 1 else f"{name} of {stores[which]}")
    return names


def _check_targets(store: str, config: ExperimentConfig) -> None:
    """Refuses to train on an ESP that a store does not have."""
    variables = read_schema(store).variables
    if config.training.esp_w and not {"esp", "vdw_surface"} <= set(variables):
        raise TrainingError.of(
            store,
            wrong="the store has no ESP on a grid, but training.esp_w is not 0; it has "
            f"{', '.join(variables)}",
            consequence="there is no ESP to train on",
            remedy="Ingest files with an ESP, or set training.esp_w=0",
        )
    if config.training.field_w and "electric_field" not in variables:
        raise TrainingError.of(
            store,
            wrong="the store has no electric field on a grid, but training.field_w is not 0; it "
            f"has {', '.join(variables)}",
            consequence="there is no field to train on",
            remedy="Ingest files that have one, calculate it with 'dcmnet reference --field', or "
            "set training.field_w=0",
        )
