"""Finds the models in the box, and loads them; their hashes are checked."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import jax
import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from dcmnet.model import Parameters
from dcmnet.model.trained import TrainedModel
from dcmnet.pretrained.card import ModelCard
from store_schema.documents import read_validated
from store_schema.problems import CheckpointError

BOX: Final = Path(__file__).parent / "models"
# The one that predicts where no model is named.
DEFAULT: Final = "dcm2"
_CONSEQUENCE: Final = "the model cannot be used"
_REMEDY: Final = "Install the package again"


def pretrained_names(box: Path = BOX) -> tuple[str, ...]:
    """Returns the names of the models in the box."""
    return tuple(sorted(path.stem for path in box.glob("*.json")))


def is_pretrained(source: str | Path) -> bool:
    """Says whether a model in the box is meant: its name always is; ``./dcm2`` is a folder."""
    return str(source) in pretrained_names()


def read_card(name: str, box: Path = BOX) -> ModelCard:
    """Returns the card of a model.

    Args:
        name: One of ``pretrained_names()``.
        box: Where the models are.

    Raises:
        CheckpointError: There is no such model, or its card is damaged.
    """
    path = box / f"{name}.json"
    if name not in pretrained_names(box):
        raise CheckpointError.of(
            name,
            wrong="there is no model in the box of this name; there is "
            f"{', '.join(pretrained_names(box)) or 'none at all'}",
            consequence="nothing was loaded",
            remedy="Name one of these; 'dcmnet models' lists them",
        )
    return read_validated(
        ModelCard,
        path,
        expected="the card of a model",
        error=CheckpointError,
        consequence=_CONSEQUENCE,
        remedy=_REMEDY,
    )


def load_pretrained(name: str, box: Path = BOX) -> TrainedModel:
    """Loads a model from the box, with its ensemble.

    Args:
        name: One of ``pretrained_names()``.
        box: Where the models are.

    Raises:
        CheckpointError: There is no such model, or its files are not what was released.
    """
    card = read_card(name, box)
    path = box / f"{name}.safetensors"
    try:
        content = path.read_bytes()
    except OSError as error:
        raise _damaged(path, error.strerror or str(error)) from error
    if hashlib.sha256(content).hexdigest() != card.sha256:
        raise _damaged(path, "their hash is not that of the card")
    try:
        members = _nested(load(content))
        first, *others = (members[str(index)] for index in range(card.n_members))
    except (SafetensorError, KeyError) as error:
        raise _damaged(path, str(error)) from error
    return TrainedModel(
        card.model,
        first,
        checkpoint="released",
        name=name,
        domain=card.domain,
        ensemble=others,
        calibration=card.calibration,
    )


def packed(members: list[Parameters]) -> bytes:
    """Returns the parameters of an ensemble as the content of a file of weights."""
    every = {str(index): params for index, params in enumerate(members)}
    return save(
        {
            jax.tree_util.keystr(path, simple=True, separator="/"): np.ascontiguousarray(
                array, np.float32
            )
            for path, array in jax.tree.leaves_with_path(every)
        }
    )


def _nested(arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Returns arrays named ``member/module/name`` as a tree."""
    tree: dict[str, Any] = {}
    for name, array in arrays.items():
        *parents, last = name.split("/")
        branch = tree
        for parent in parents:
            branch = branch.setdefault(parent, {})
        branch[last] = array
    return tree


def _damaged(path: Path, received: str) -> CheckpointError:
    return CheckpointError.of(
        str(path),
        wrong=f"these are not the weights that were released: {received}",
        consequence=_CONSEQUENCE,
        remedy=_REMEDY,
    )
