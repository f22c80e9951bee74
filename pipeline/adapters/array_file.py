"""What a file of named arrays offers, whatever its format: headers at once, data in step."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Protocol

import numpy as np
from jaxtyping import Int

from pipeline.adapters.columns import Column
from store_schema.problems import SourceError

_SPILLED_ROWS = 4096


class ArrayFile(Protocol):
    """A file of named arrays.

    Attributes:
        path: The file.
        columns: Header of each array, by key.
        objects: Keys of arrays of neither numbers nor text, which are not read.
        attributes: Text that the format keeps with arrays, such as their units.
    """

    path: Path
    columns: Mapping[str, Column]
    objects: tuple[str, ...]
    attributes: Mapping[str, str]

    def read(self, key: str) -> np.ndarray:
        """Reads one array whole.

        Raises:
            SourceError: The file is damaged.
        """
        ...

    def rows(self, key: str, n: int, sizes: Iterator[int]) -> Iterator[np.ndarray]:
        """Reads an array in step, as flat rows.

        Args:
            key: Key of the array.
            n: Rows it holds; its size is a multiple of this.
            sizes: Rows to read each time.

        Yields:
            The next rows, (rows, values per row).

        Raises:
            SourceError: The file is damaged.
        """
        ...

    def pick(self, key: str, n: int, rows: Int[np.ndarray, " row"]) -> np.ndarray:
        """Reads some rows of an array, (rows, values per row).

        Args:
            key: Key of the array.
            n: Rows it holds; its size is a multiple of this.
            rows: Which ones, ascending.

        Raises:
            SourceError: The file is damaged.
        """
        ...

    def refused(self, key: str) -> SourceError:
        """Returns the error that says why an array of objects is not read."""
        ...


def spilled(file: ArrayFile, key: str, n: int) -> np.ndarray:
    """Unpacks an array into an unnamed temporary file, for reading in any order.

    Args:
        file: The file of the array.
        key: Its key.
        n: Rows it holds.

    Returns:
        Its rows, (n, values per row).

    Raises:
        SourceError: The file is damaged.
    """
    sizes = [min(_SPILLED_ROWS, n - start) for start in range(0, n, _SPILLED_ROWS)]
    dtype, width = file.columns[key].dtype, 0
    with tempfile.TemporaryFile() as copy:
        for rows in file.rows(key, n, iter(sizes)):
            dtype, width = rows.dtype, rows.shape[1]
            np.ascontiguousarray(rows).tofile(copy)
        copy.flush()
        if not width or not dtype.itemsize:
            return np.zeros((n, width), dtype)
        return np.memmap(copy, dtype=dtype, mode="r", shape=(n, width))
