"""Records of one molecule each, or of its geometries, in arrays that are as long as it is large."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from jaxtyping import Int

from pipeline.adapters.columns import Column

Header = Mapping[str, Column]


class Records(Protocol):
    """Files, groups or frames that hold a molecule each, or several geometries of one.

    Attributes:
        convention: Name of the convention.
        place: How messages name all of them.
        files: The files, in the order they are read.
        metadata: Text of the entries that are of no single molecule.
        unread: Keys that cannot be read, with the reason.
        kinds: Headers that records have, each once.
        kind_of: Which of them each record has.
    """

    convention: str
    place: str
    files: tuple[Path, ...]
    metadata: Mapping[str, str]
    unread: Mapping[str, str]
    kinds: Sequence[Header]
    kind_of: Int[np.ndarray, " record"]

    def name(self, record: int) -> str:
        """Returns the name of a record."""
        ...

    def read(self, record: int, parts: Mapping[str, slice]) -> Mapping[str, np.ndarray]:
        """Reads arrays of a record.

        Args:
            record: Which one.
            parts: What to read along the first axis of each key.

        Raises:
            SourceError: A file is damaged.
        """
        ...


def distinct(headers: Iterable[Header]) -> tuple[Sequence[Header], Int[np.ndarray, " record"]]:
    """Returns the headers that there are, each once, and which of them each record has."""
    kinds: dict[tuple[tuple[str, Column], ...], int] = {}
    kind_of = [kinds.setdefault(tuple(header.items()), len(kinds)) for header in headers]
    return [dict(kind) for kind in kinds], np.array(kind_of, np.int64)


class _Joined:
    """Records of several files, one after the other; see ``Records``."""

    def __init__(self, parts: Sequence[Records]) -> None:
        self._parts = parts
        self._ends = np.cumsum([len(part.kind_of) for part in parts])
        self.convention = parts[0].convention
        self.files = tuple(file for part in parts for file in part.files)
        folder = Path(os.path.commonpath([file.absolute().parent for file in self.files]))
        self.place = str(folder / f"*{self.files[0].suffix}")
        stems = [file.stem for file in self.files]
        self._are_unique = len(set(stems)) == len(stems)
        self.metadata: Mapping[str, str] = {
            key: text for part in parts[::-1] for key, text in part.metadata.items()
        }
        self.unread: Mapping[str, str] = {
            key: why for part in parts for key, why in part.unread.items()
        }
        self.kinds, self.kind_of = distinct(
            part.kinds[kind] for part in parts for kind in part.kind_of
        )

    def name(self, record: int) -> str:
        part, own = self._part(record)
        if len(part.kind_of) > 1:
            return part.name(own)
        file = part.files[0].absolute()
        return file.stem if self._are_unique else f"{file.parent.name}/{file.stem}"

    def read(self, record: int, parts: Mapping[str, slice]) -> Mapping[str, np.ndarray]:
        part, own = self._part(record)
        return part.read(own, parts)

    def _part(self, record: int) -> tuple[Records, int]:
        index = int(np.searchsorted(self._ends, record, side="right"))
        return self._parts[index], record - int(self._ends[index - 1] if index else 0)


def joined(parts: Sequence[Records]) -> Records:
    """Returns the records of files of one format as one."""
    return parts[0] if len(parts) == 1 else _Joined(parts)
