"""Which elements a model was trained on, kept with it: charges of others mean nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Final

import numpy as np
from ase.data import atomic_numbers, chemical_symbols
from jaxtyping import Bool
from pydantic import AfterValidator, BaseModel

from dcmnet.config import ExperimentConfig
from dcmnet.pretrained import is_pretrained, read_card
from pipeline import Store
from pipeline.files import write_text
from pipeline.store.splits import split_store
from store_schema.documents import read_validated
from store_schema.names import MOLECULE
from store_schema.problems import CheckpointError, StoreError

ELEMENTS_FILE: Final = "elements.json"
# Molecules whose atoms are looked at together.
_READ: Final = 65_536


def record_elements(directory: Path, config: ExperimentConfig) -> None:
    """Writes down the elements of the training molecules, as symbols.

    Those of the model that training started from count, where they are on record.

    Args:
        directory: Of the experiment; a record that is there is kept.
        config: Of the experiment.
    """
    path = directory / ELEMENTS_FILE
    if path.exists():
        return
    found = elements_of_stores(config)
    if config.init_from:
        found |= _elements_of(config.init_from) or frozenset()
    symbols = [chemical_symbols[number] for number in sorted(found)]
    write_text(path, json.dumps({"elements": symbols}) + "\n")


def seen_elements(directory: Path, config: ExperimentConfig) -> frozenset[int] | None:
    """Returns the atomic numbers that a model was trained on, None where nobody knows.

    Without a record they are those of the stores' training splits, while that is there.

    Args:
        directory: Of the experiment.
        config: Of the experiment.
    """
    recorded = _recorded(directory)
    if recorded is not None or not config.data.store:
        return recorded
    try:
        return elements_of_stores(config)
    except (StoreError, OSError):
        return None


def new_elements(config: ExperimentConfig) -> frozenset[int]:
    """Returns the atomic numbers of the training molecules that the model to start from lacks."""
    known = _elements_of(config.init_from) if config.init_from else None
    return frozenset() if known is None else elements_of_stores(config) - known


def elements_of_stores(config: ExperimentConfig) -> frozenset[int]:
    """Returns the atomic numbers of the training split of an experiment's stores.

    Raises:
        StoreError: There is no store, it is not valid, or a chunk of it is damaged.
    """
    found: set[int] = set()
    for store in config.data.stores:
        opened = Store.at(store)
        numbers = opened.tree().to_dataset()["atomic_numbers"]
        splits = split_store(store, config.data.split_fractions)
        train: Bool[np.ndarray, " molecule"] = splits.mask("train")
        for start in range(0, numbers.sizes[MOLECULE], _READ):
            part = slice(start, start + _READ)
            with opened.reading():
                found |= set(np.unique(numbers[part].values[train[part]]).tolist())
    return frozenset(found - {0})


def _symbol(text: str) -> str:
    if text not in atomic_numbers:
        raise ValueError("not the symbol of an element")
    return text


def _elements_of(source: str) -> frozenset[int] | None:
    """Those of a model that training starts from."""
    if is_pretrained(source):
        return read_card(source).domain.elements
    return _recorded(Path(source))


def _recorded(directory: Path) -> frozenset[int] | None:
    path = directory / ELEMENTS_FILE
    try:
        record = read_validated(
            _Elements,
            path,
            expected="the symbols of the elements of the training data",
            error=CheckpointError,
            consequence="it is not known what the model was trained on",
            remedy="Restore the file, or delete it to have them read from the store",
        )
    except (FileNotFoundError, NotADirectoryError):
        return None
    return frozenset(atomic_numbers[symbol] for symbol in record.elements)


class _Elements(BaseModel):
    elements: tuple[Annotated[str, AfterValidator(_symbol)], ...]
