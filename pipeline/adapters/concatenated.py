"""Atoms of all molecules one after the other, as many for each as ``N`` says.

Or as ``ptr`` and ``batch`` say, which graph libraries write: where each molecule starts, and which
one each atom belongs to.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Final

import numpy as np
from jaxtyping import Float, Int

from pipeline.adapters.array_file import ArrayFile
from pipeline.adapters.columns import Block, Column
from pipeline.adapters.layout import Names
from pipeline.adapters.npz import NpzFile
from pipeline.adapters.padded import layout_of, metadata_of, unpackable

# Keys of graph libraries: where each molecule starts, and which one each atom belongs to.
_STARTS: Final = ("ptr", "atom_ptr", "offsets", "offset", "atom_offsets")
_MEMBERS: Final = ("batch", "atom_batch", "batch_index", "molecule_index", "mol_index", "idx_m")


class ConcatenatedSource:
    """One file whose per-atom arrays, and grids where it counts them, have no padding."""

    convention = "concatenated"

    def __init__(self, file: ArrayFile, names: Names) -> None:
        """Reads the numbers of atoms, and the shapes.

        Raises:
            SourceError: They do not make molecules, or the file is damaged.
        """
        self.file = file
        self.place = str(file.path)
        self.files: tuple[Path, ...] = (file.path,)
        self._ends = _ends(file, names)
        self._axes = {
            key: axis for key, column in file.columns.items() for axis in self._axis_of(column)
        }
        self.columns: Mapping[str, Column] = {
            key: self._padded_header(key, column) for key, column in file.columns.items()
        }
        self.layout = layout_of(file, names, self.columns)
        self.metadata: Mapping[str, str] = metadata_of(file, self.layout)

    def blocks(self, n_molecules: int) -> Iterator[Block]:
        """Reads all molecules in order; see ``Source.blocks``."""
        n = self.layout.n_molecules
        edges = [*range(0, n, n_molecules), n]
        streams = {key: self.file.rows(key, *self._steps(key, edges)) for key in self._read_keys()}
        for start, stop in pairwise(edges):
            rows = np.arange(start, stop)
            yield self._block(rows, {key: next(stream) for key, stream in streams.items()})

    def sample(self, rows: Int[np.ndarray, " row"]) -> Block:
        """Reads some molecules; see ``Source.sample``."""
        flat = {}
        for key in self._read_keys():
            axis = self._axes.get(key)
            if axis is None:
                flat[key] = self.file.pick(key, self.layout.n_molecules, rows)
            else:
                starts, ends = self._spans(axis)
                places = np.concatenate([np.arange(starts[row], ends[row]) for row in rows])
                flat[key] = self.file.pick(key, int(ends[-1]), places)
        return self._block(rows, flat)

    def stretch(self, start: int, stop: int) -> Block:
        """Reads consecutive molecules; see ``Source.stretch``."""
        return self.sample(np.arange(start, stop))

    def archives(self) -> dict[NpzFile, list[str]]:
        """Returns the file and what is read of it; see ``Source.archives``."""
        return unpackable(self.file, self._read_keys())

    def identity(self, row: int) -> str:
        """Returns the file's name and the row."""
        return f"{self.file.path.stem}#{row}"

    def _read_keys(self) -> list[str]:
        return [*self.layout.fits, *self.layout.kept]

    def _axis_of(self, column: Column) -> list[str]:
        """The axis that an array runs along, if it is one of all molecules together."""
        return [axis for axis, ends in self._ends.items() if column.shape[:1] == (int(ends[-1]),)][
            :1
        ]

    def _padded_header(self, key: str, column: Column) -> Column:
        """The header that an array would have if it were padded."""
        axis = self._axes.get(key)
        if axis is None:
            return column
        ends = self._ends[axis]
        width = int(np.diff(ends, prepend=0).max())
        return Column((len(ends), width, *column.shape[1:]), column.dtype)

    def _spans(self, axis: str) -> tuple[np.ndarray, np.ndarray]:
        ends = self._ends[axis]
        return np.concatenate([[0], ends[:-1]]), ends

    def _steps(self, key: str, edges: list[int]) -> tuple[int, Iterator[int]]:
        """Rows of an array, and how many of them each block takes."""
        axis = self._axes.get(key)
        if axis is None:
            return self.layout.n_molecules, iter(np.diff(edges).tolist())
        marks = np.concatenate([[0], self._ends[axis]])
        return int(marks[-1]), iter(np.diff(marks[edges]).tolist())

    def _block(self, rows: Int[np.ndarray, " row"], flat: Mapping[str, np.ndarray]) -> Block:
        columns = {}
        shapes = {key: fits[0].shape for key, fits in self.layout.fits.items()} | dict(
            self.layout.kept
        )
        for key, values in flat.items():
            axis = self._axes.get(key)
            if axis is None:
                columns[key] = values.reshape(len(rows), *shapes[key])
                continue
            starts, ends = self._spans(axis)
            lengths = (ends - starts)[rows]
            width = self.columns[key].shape[1]
            rest = self.columns[key].shape[2:]
            fill = np.nan if values.dtype.kind == "f" else np.zeros((), values.dtype)[()]
            padded = np.full((len(rows), width, *rest), fill, values.dtype)
            padded[np.arange(width) < lengths[:, None]] = values.reshape(-1, *rest)
            columns[key] = padded.reshape(len(rows), *shapes[key])
        return Block(int(rows[0]), columns)


def is_concatenated(file: ArrayFile, names: Names) -> bool:
    """Says whether the numbers of atoms add up to the atoms of a file without a molecule axis."""
    return "atom" in _ends(file, names)


def _ends(file: ArrayFile, names: Names) -> dict[str, Int[np.ndarray, " molecule"]]:
    """Where each molecule ends along the axes that all molecules share."""
    columns = file.columns
    ends = {}
    for axis, count, several in (
        ("atom", "n_atoms", ("atomic_numbers", "positions")),
        ("grid_point", "n_grid", ("esp", "vdw_surface")),
    ):
        keys = [key for name in several if (key := names.first(columns, name)) is not None]
        if not keys:
            continue
        numbers = _counts(file, names.first(columns, count), axis, columns[keys[0]].shape[0])
        if numbers is None:
            continue
        lengths = {columns[key].shape[0] for key in keys}
        plain = all(len(columns[key].shape) <= 2 for key in keys)
        if len(lengths) != 1 or not plain or (axis == "atom" and len(keys) < len(several)):
            continue
        whole = np.isfinite(numbers).all() and (numbers >= 1).all()
        if len(numbers) > 1 and whole and numbers.sum() == lengths.pop():
            ends[axis] = np.rint(numbers).astype(np.int64).cumsum()
    return ends if "atom" in ends else {}


def _counts(
    file: ArrayFile, key: str | None, axis: str, length: int
) -> Float[np.ndarray, " molecule"] | None:
    """How many entries of an axis each molecule has, as a key or the index of a graph says."""
    columns = file.columns
    if key is not None:
        plain = columns[key].dtype.kind in "iuf"
        return file.read(key).reshape(-1).astype(np.float64) if plain else None
    if axis != "atom":
        return None
    for other, column in columns.items():
        if column.dtype.kind not in "iu" or len(column.shape) != 1:
            continue
        if other.lower() in _STARTS and column.shape[0] > 1:
            starts = file.read(other).astype(np.int64)
            if starts[0] == 0 and starts[-1] == length:
                return np.diff(starts).astype(np.float64)
        if other.lower() in _MEMBERS and column.shape[0] == length:
            members = file.read(other).astype(np.int64)
            if members.size and members[0] == 0 and (np.diff(members) >= 0).all():
                return np.bincount(members).astype(np.float64)
    return None
