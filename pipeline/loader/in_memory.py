"""Batches of molecules that are at hand, without a store: prediction and notebooks.

The padding and the pairs are those of the streaming loader.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pipeline.loader.batch import FIELDS, GRID_FIELDS, STRUCTURE_FIELDS, BatchShape, MoleculeBatch
from pipeline.loader.buffer import MoleculeBuffer, empty_fields, field_shape, settle_missing
from pipeline.loader.gather import gather
from pipeline.loader.pairs import count_pairs
from store_schema.names import VARIABLES
from store_schema.problems import ConfigError, Problem, SourceError


def make_batch(
    molecules: Sequence[Mapping[str, Any]], shape: BatchShape | None = None, *, cutoff: float = 4.0
) -> MoleculeBatch:
    """Makes one batch of molecules given one by one.

    Args:
        molecules: Each a mapping from the names of a batch's fields to values in the
            store's units: `atomic_numbers (a,)` and `positions (a, 3)` in Å; where known
            `total_charge`, `monopoles (a,)`, `esp (g,)`, `vdw_surface (g, 3)`,
            `electric_field (g, 3)`, `dipole (3,)`, `dipole_magnitude`, `quadrupole (3, 3)`. A
            field may be left out, None or NaN: its presence mask is then false.
            `molecule_index` is the place in the sequence.
        shape: Padded sizes; the smallest that fit by default.
        cutoff: Distance in Å below which two atoms are a pair.

    Raises:
        SourceError: Molecules are not what this documents; all problems at once.
        ConfigError: The molecules do not fit into `shape`, or the cutoff is not a distance.
    """
    if not 0 < cutoff < math.inf:
        raise ConfigError.of(
            "make_batch, cutoff",
            wrong=f"the cutoff is {cutoff}, not a finite distance above 0",
            consequence="no pairs can be found",
            remedy="Give another value",
        )
    arrays = _as_arrays(molecules)
    smallest = _smallest_shape(arrays, cutoff)
    if shape is None:
        shape = smallest
    elif any(given < needed for given, needed in zip(shape, smallest, strict=True)):
        raise ConfigError.of(
            "make_batch, shape",
            wrong=f"{shape} is smaller than the molecules, which need {smallest}",
            consequence="atoms, points or pairs would be cut off",
            remedy="Give a larger shape, or none for the smallest that fits",
        )
    return gather(_pack(arrays, shape), np.arange(len(arrays)), shape, cutoff)


def _as_arrays(molecules: Sequence[Mapping[str, Any]]) -> list[dict[str, np.ndarray]]:
    """Converts what was given; lists all problems at once."""
    arrays, problems = [], []
    for i, molecule in enumerate(molecules):
        converted = {
            name: np.asarray(value, VARIABLES[name].dtype)
            for name, value in molecule.items()
            if name in FIELDS and value is not None
        }
        problems += _check(i, molecule, converted)
        arrays.append(converted)
    if problems:
        raise SourceError(problems)
    return arrays


def _smallest_shape(arrays: Sequence[Mapping[str, np.ndarray]], cutoff: float) -> BatchShape:
    pairs = sum(
        int(count_pairs(a["positions"][None], np.ones((1, len(a["positions"])), bool), cutoff)[0])
        for a in arrays
    )
    return BatchShape(
        molecules=len(arrays),
        atoms=max((len(a["atomic_numbers"]) for a in arrays), default=1),
        grid_points=max(map(_grid_length, arrays), default=0),
        pairs=max(1, pairs),
    )


def _pack(arrays: Sequence[Mapping[str, np.ndarray]], shape: BatchShape) -> MoleculeBuffer:
    """Puts molecules into one buffer as wide as the shape; a field that one lacks is NaN there."""
    names = [name for name in FIELDS if any(name in a for a in arrays)]
    fields = empty_fields(names, len(arrays), shape.atoms, shape.grid_points)
    for name, padded in fields.items():
        padded[...] = VARIABLES[name].fill_value
        for i, molecule in enumerate(arrays):
            if name in molecule:
                index: tuple[int | slice, ...] = (i, *map(slice, molecule[name].shape))
                padded[index] = molecule[name]
    return MoleculeBuffer(
        rows=np.arange(len(arrays), dtype=np.int32),
        n_atoms=np.array([len(a["atomic_numbers"]) for a in arrays], np.int32),
        n_grid=np.array([_grid_length(a) for a in arrays], np.int32),
        fields=fields,
        present=settle_missing(fields, len(arrays)),
    )


def _grid_length(arrays: Mapping[str, np.ndarray]) -> int:
    return max((arrays[name].shape[0] for name in GRID_FIELDS if name in arrays), default=0)


def _check(i: int, molecule: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> list[Problem]:
    """Lists what is wrong with one molecule."""
    found: list[tuple[str, str]] = [
        (name, f"a batch has no field of this name, only {', '.join(FIELDS)}")
        for name in molecule
        if name not in FIELDS
    ]
    for name in STRUCTURE_FIELDS:
        if name not in arrays:
            found.append((name, "it is missing"))
    if "atomic_numbers" in arrays:
        n_atoms = arrays["atomic_numbers"].size
        for name, array in arrays.items():
            expected = field_shape(name, 1, n_atoms, _grid_length(arrays))[1:]
            if array.shape != expected:
                found.append((name, f"its shape is {array.shape}, not {expected}"))
        if np.any(arrays["atomic_numbers"] < 1):
            found.append(("atomic_numbers", "one is below 1"))
        for name in {*GRID_FIELDS} & arrays.keys():
            known = np.isfinite(arrays[name])
            if known.any() and not known.all():
                found.append((name, "it is finite at some points, and not at others"))
        if "positions" in arrays and not np.all(np.isfinite(arrays["positions"])):
            found.append(("positions", "one is NaN or infinity"))
    return [
        Problem(
            place=f"molecule {i}, {name}",
            wrong=wrong,
            consequence="no batch can be made of it",
            remedy="Give each molecule unpadded, in the names and units of the store",
        )
        for name, wrong in found
    ]
