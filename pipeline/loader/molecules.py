"""Batches of molecules that are at hand, without a store: prediction and notebooks.

The padding and the pairs are those of the streaming loader.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Int32, Int64

from pipeline.loader.batch import FIELDS, BatchShape, MoleculeBatch
from pipeline.loader.buffer import MoleculeBuffer
from pipeline.loader.gather import gather
from pipeline.loader.pairs import count_pairs
from store_schema.names import ATOM, GRID_POINT, MOLECULE, VARIABLES, XYZ, XYZ2
from store_schema.problems import ConfigError, Problem, SourceError


def make_batch(
    molecules: Sequence[Mapping[str, Any]], shape: BatchShape | None = None, *, cutoff: float = 4.0
) -> MoleculeBatch:
    """Makes one batch of molecules given one by one.

    Args:
        molecules: Each a mapping from the names of a batch's fields to values in the
            store's units: `atomic_numbers (a,)` and `positions (a, 3)` in Å; where known
            `total_charge`, `monopoles (a,)`, `esp (g,)`, `vdw_surface (g, 3)`, `dipole (3,)`,
            `dipole_magnitude`, `quadrupole (3, 3)`. A field may be left out, None or NaN:
            its presence mask is then false. `molecule_index` is the place in the sequence.
        shape: Padded sizes; the smallest that fit by default.
        cutoff: Distance in Å below which two atoms are a pair.

    Raises:
        SourceError: Molecules are not what this documents; all problems at once.
        ConfigError: The molecules do not fit into `shape`.
    """
    buffer = pack_molecules(molecules)
    smallest = _smallest_shape(buffer, cutoff)
    if shape is None:
        shape = smallest
    elif any(given < needed for given, needed in zip(shape, smallest, strict=True)):
        raise ConfigError.of(
            "make_batch, shape",
            expected=f"at least {smallest}",
            received=str(shape),
            consequence="atoms, points or pairs would be cut off",
            remedy="Give a larger shape, or none for the smallest that fits",
        )
    return gather(buffer, np.arange(len(buffer.rows)), shape, cutoff)


def _smallest_shape(buffer: MoleculeBuffer, cutoff: float) -> BatchShape:
    A = int(buffer.n_atoms.max(initial=1))
    mask = np.arange(A) < buffer.n_atoms[:, None]
    pairs = count_pairs(buffer.positions(A), mask, cutoff).sum()
    return BatchShape(len(buffer.rows), A, int(buffer.n_grid.max(initial=0)), max(1, int(pairs)))


def pack_molecules(molecules: Sequence[Mapping[str, Any]]) -> MoleculeBuffer:
    """Packs molecules given one by one, as `make_batch` documents them.

    Raises:
        SourceError: A name is not one of a batch's fields, a required one is missing, or
            shapes do not fit; all problems at once.
    """
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
    n_atoms = np.array([len(a["atomic_numbers"]) for a in arrays], np.int32)
    n_grid = np.array([_grid_length(a) for a in arrays], np.int32)
    lengths = {ATOM: n_atoms, GRID_POINT: n_grid}
    names = [name for name in FIELDS if any(name in a for a in arrays)]
    return MoleculeBuffer(
        rows=np.arange(len(arrays), dtype=np.int32),
        n_atoms=n_atoms,
        n_grid=n_grid,
        atom_start=_starts(n_atoms),
        grid_start=_starts(n_grid),
        fields={name: _flat(name, arrays, lengths) for name in names},
    )


def _starts(lengths: Int32[np.ndarray, " n"]) -> Int64[np.ndarray, " n"]:
    return np.cumsum(lengths, dtype=np.int64) - lengths


def _grid_length(arrays: Mapping[str, np.ndarray]) -> int:
    return max((len(arrays[name]) for name in ("vdw_surface", "esp") if name in arrays), default=0)


def _flat(
    name: str, arrays: Sequence[Mapping[str, np.ndarray]], lengths: Mapping[str, np.ndarray]
) -> np.ndarray:
    """Joins one field of all molecules; a molecule without it is NaN there."""
    variable = VARIABLES[name]
    shape = _expected_shape(name, 0, 0)
    pieces = []
    for i, molecule in enumerate(arrays):
        full = tuple(
            int(lengths[dim][i]) if dim in lengths else size
            for dim, size in zip(variable.dims[1:], shape, strict=True)
        )
        value = molecule[name] if name in molecule else np.full(full, np.nan, variable.dtype)
        pieces.append(value.reshape(full))
    return (
        np.concatenate(pieces)
        if variable.dims[1:2] in ((ATOM,), (GRID_POINT,))
        else np.stack(pieces)
    )


def _expected_shape(name: str, n_atoms: int, n_grid: int) -> tuple[int, ...]:
    sizes = {ATOM: n_atoms, GRID_POINT: n_grid, XYZ: 3, XYZ2: 3}
    return tuple(sizes[dim] for dim in VARIABLES[name].dims if dim != MOLECULE)


def _check(i: int, molecule: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> list[Problem]:
    """Lists what is wrong with one molecule."""
    wrong: list[tuple[str, str, str]] = [
        (name, f"one of {', '.join(FIELDS)}", "a name that a batch has no field for")
        for name in molecule
        if name not in FIELDS
    ]
    for name in ("atomic_numbers", "positions"):
        if name not in arrays:
            wrong.append((name, "a value", "none"))
    if "atomic_numbers" in arrays:
        n_atoms = arrays["atomic_numbers"].size
        for name, array in arrays.items():
            expected = _expected_shape(name, n_atoms, _grid_length(arrays) if array.ndim else 0)
            if array.shape != expected:
                wrong.append((name, f"shape {expected}", f"shape {array.shape}"))
        if np.any(arrays["atomic_numbers"] < 1):
            wrong.append(("atomic_numbers", "numbers of 1 and more", "0 or less"))
        if "positions" in arrays and not np.all(np.isfinite(arrays["positions"])):
            wrong.append(("positions", "finite numbers", "NaN or infinity"))
    return [
        Problem(
            place=f"molecule {i}, {name}",
            expected=expected,
            received=received,
            consequence="no batch can be made of it",
            remedy="Give each molecule unpadded, in the names and units of the store",
        )
        for name, expected, received in wrong
    ]
