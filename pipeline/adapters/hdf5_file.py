"""Arrays of all molecules in one group of an HDF5 file, as an NPZ file holds them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import numpy as np
from jaxtyping import Int

from pipeline.adapters.columns import Column
from pipeline.adapters.hdf5 import Hdf5
from pipeline.adapters.hdf5_groups import Record, units_of
from store_schema.problems import SourceError

# Single rows are read one by one only where fewer than this part of a window is asked for.
_SPARSE: Final = 8


class Hdf5File:
    """The arrays of one group; see ``pipeline.adapters.array_file.ArrayFile``."""

    def __init__(self, file: Hdf5, record: Record) -> None:
        """Takes the arrays of a group."""
        self._file, self._record = file, record
        self.path: Path = file.path
        self.columns: Mapping[str, Column] = record.header
        self.objects: tuple[str, ...] = tuple(record.unread)
        self.attributes: Mapping[str, str] = units_of([record], str(file.path))

    def read(self, key: str) -> np.ndarray:
        """Reads one array whole; see ``ArrayFile.read``."""
        return self._record.read(self._file, key, slice(None))

    def rows(self, key: str, n: int, sizes: Iterator[int]) -> Iterator[np.ndarray]:
        """Reads an array in step, as flat rows; see ``ArrayFile.rows``."""
        start = 0
        for size in sizes:
            yield self._window(key, n, start, start + size)
            start += size

    def pick(self, key: str, n: int, rows: Int[np.ndarray, " row"]) -> np.ndarray:
        """Reads some rows of an array; see ``ArrayFile.pick``."""
        starts = np.flatnonzero(np.diff(rows, prepend=-2) > _SPARSE)
        runs = np.split(rows, starts[1:])
        return np.concatenate(
            [self._window(key, n, int(run[0]), int(run[-1]) + 1)[run - run[0]] for run in runs]
        )

    def refused(self, key: str) -> SourceError:
        """Returns the error that says why an array is not read."""
        return SourceError.of(
            f"{self.path}, {key}",
            wrong=f"this is no array of numbers or text: {self._record.unread[key]}",
            consequence="nothing was read",
            remedy="Write it as an array of numbers, padded to the largest molecule",
        )

    def _window(self, key: str, n: int, start: int, stop: int) -> np.ndarray:
        """Reads consecutive rows; what is not cut by rows, whole."""
        length = self.columns[key].shape[0] if self.columns[key].shape else 1
        per_row, rest = divmod(length, n)
        if rest or not per_row:
            return self.read(key).reshape(n, -1)[start:stop]
        part = self._record.read(self._file, key, slice(start * per_row, stop * per_row))
        return part.reshape(stop - start, -1)
