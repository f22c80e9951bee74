"""One file per molecule, without padding."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from pipeline.adapters.array_file import ArrayFile
from pipeline.adapters.layout import Names
from pipeline.adapters.padded import OBJECTS
from pipeline.adapters.records import Header, distinct


class MoleculeFiles:
    """Files of one molecule each; see ``pipeline.adapters.records.Records``."""

    convention = "single_molecule"

    def __init__(self, files: Sequence[ArrayFile], names: Names) -> None:
        """Reads the headers of the files.

        Raises:
            SourceError: A key that is needed holds Python objects.
        """
        self._files = tuple(files)
        self.files: tuple[Path, ...] = tuple(file.path for file in files)
        first = files[0].path
        self.place = str(first if len(files) == 1 else first.parent / f"*{first.suffix}")
        for file in files:
            for key in file.objects:
                if names.meanings(key):
                    raise file.refused(key)
        self.unread: Mapping[str, str] = {key: OBJECTS for file in files for key in file.objects}
        self.metadata: Mapping[str, str] = {
            **files[0].attributes,
            **{key: _text(files[0].read(key)) for key in _of_the_file(files[0], names)},
        }
        self.kinds, self.kind_of = distinct(self._headers(names))

    def name(self, record: int) -> str:
        """Returns the file's name without its ending."""
        return self.files[record].stem

    def read(self, record: int, parts: Mapping[str, slice]) -> dict[str, np.ndarray]:
        """Reads arrays of a file; see ``Records.read``."""
        arrays = {key: self._files[record].read(key) for key in parts}
        return {key: array[parts[key]] if array.ndim else array for key, array in arrays.items()}

    def _headers(self, names: Names) -> Iterator[Header]:
        for file in self._files:
            left_out = set(_of_the_file(file, names))
            yield {key: column for key, column in file.columns.items() if key not in left_out}


def _of_the_file(file: ArrayFile, names: Names) -> list[str]:
    """Keys of text that says something of the file, such as a unit."""
    return [
        key
        for key, column in file.columns.items()
        if column.dtype.kind in "US" and math.prod(column.shape) == 1 and not names.meanings(key)
    ]


def _text(array: np.ndarray) -> str:
    value = array.item()
    return value.decode("utf-8", errors="replace") if isinstance(value, bytes) else str(value)
