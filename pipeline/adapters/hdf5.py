"""HDF5 files: which arrays a group holds, and their values; nothing outside the file is read."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

from pipeline.adapters.columns import Column
from pipeline.adapters.damage import damage_reported
from store_schema.extras import extra
from store_schema.problems import SourceError

if TYPE_CHECKING:
    import h5py

# As for NPZ files: what claims to be compressed further is a bomb, or was never written.
_MAX_RATIO: Final = 1100
_READABLE_KINDS: Final = "biufSU"
_READABLE: Final = "a readable HDF5 file"
_UNIT_NAMES: Final = ("units", "unit", "u")


class Entry(NamedTuple):
    """A dataset or an attribute.

    Attributes:
        column: Its header; None for what cannot be read.
        unit: What its own attribute says of its unit; empty if nothing.
        is_attribute: Whether it is an attribute of a group.
        unread: Why it cannot be read; empty where it can.
    """

    column: Column | None
    unit: str = ""
    is_attribute: bool = False
    unread: str = ""


class Hdf5:
    """A file that is opened when it is first read, also by whoever unpickles this.

    Attributes:
        path: The file.
    """

    def __init__(self, path: Path) -> None:
        """Notes the file.

        Raises:
            ConfigError: h5py is not installed.
        """
        with extra("formats", f"reading {path}"):
            import h5py  # noqa: F401
        self.path = path
        self._absolute = path.absolute()
        self._file: h5py.File | None = None

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_file": None}

    @contextmanager
    def opened(self, place: str = "") -> Iterator[h5py.File]:
        """Yields the open file, and reports damage.

        Args:
            place: What is read of it, for error messages.

        Raises:
            SourceError: It is damaged, or no HDF5 file.
        """
        import h5py

        with damage_reported(f"{self.path}, {place}" if place else str(self.path), _READABLE):
            if self._file is None:
                self._file = h5py.File(self._absolute, "r", locking="best-effort")
            yield self._file

    def values(self, place: str, part: slice | np.ndarray = slice(None)) -> np.ndarray:
        """Reads a dataset.

        Args:
            place: Its path in the file.
            part: What to read along its first axis.

        Raises:
            SourceError: The file is damaged, or the values are not in it.
        """
        with self.opened(place) as file:
            dataset = file[place]
            self._check_inside(dataset)
            readable = dataset.asstr(errors="replace") if dataset.dtype.kind == "O" else dataset
            return _plain(readable[part] if dataset.shape else readable[()])

    def attribute(self, group: str, name: str) -> np.ndarray:
        """Reads an attribute of a group.

        Raises:
            SourceError: The file is damaged.
        """
        with self.opened(f"{group}, {name}") as file:
            return _plain(file[group].attrs[name])

    def _check_inside(self, dataset: h5py.Dataset) -> None:
        """Raises a SourceError where values lie in another file, or were never written."""
        claimed, stored = dataset.nbytes, dataset.id.get_storage_size()
        if dataset.is_virtual or dataset.external:
            wrong = "its values lie in another file"
        elif claimed > dataset.dtype.itemsize and claimed > _MAX_RATIO * stored:
            wrong = f"of its {claimed} bytes only {stored} are there"
        else:
            return
        raise SourceError.of(
            f"{self.path}, {dataset.name}",
            wrong=wrong,
            consequence="nothing was stored",
            remedy="Write the values into the file, or leave the dataset out",
        )


def contents(group: h5py.Group) -> tuple[dict[str, Entry], list[str]]:
    """Returns what a group holds: its arrays by name, and the names of the groups in it.

    Links are not followed: they may lead to another file.
    """
    import h5py

    entries: dict[str, Entry] = {}
    groups: list[str] = []
    for name in group:
        raw = name.encode("utf-8", errors="surrogateescape")
        if group.id.links.get_info(raw).type != h5py.h5l.TYPE_HARD:
            entries[name] = Entry(None, unread="it is a link to another place or file")
            continue
        kind = h5py.h5o.get_info(group.id, raw).type
        if kind == h5py.h5o.TYPE_GROUP:
            groups.append(name)
        elif kind == h5py.h5o.TYPE_DATASET:
            entries[name] = _dataset(h5py.h5d.open(group.id, raw))
    for name in group.attrs:
        if name not in entries:
            entries[name] = _attribute(_plain(group.attrs[name]))
    return entries, groups


def _dataset(dataset: h5py.h5d.DatasetID) -> Entry:
    import h5py

    dtype = dataset.dtype
    text = h5py.check_string_dtype(dtype)
    if text is not None and text.length is None:
        dtype = np.dtype(np.str_)
    if dtype.kind not in _READABLE_KINDS:
        return Entry(None, unread=f"its values are of type {dtype}, neither numbers nor text")
    if dataset.shape is None:
        return Entry(None, unread="it is empty")
    unit = ""
    if h5py.h5a.get_num_attrs(dataset):
        attributes = h5py.Dataset(dataset).attrs
        unit = next((str(_plain(attributes[n])) for n in _UNIT_NAMES if n in attributes), "")
    return Entry(Column(tuple(dataset.shape), dtype), unit)


def _attribute(value: np.ndarray) -> Entry:
    if value.dtype.kind not in _READABLE_KINDS:
        return Entry(None, is_attribute=True, unread="it is neither numbers nor text")
    return Entry(Column(value.shape, value.dtype), is_attribute=True)


def _plain(value: Any) -> np.ndarray:
    """An array of what h5py returns; its text of any length as numpy's."""
    array = np.asarray(value)
    if array.dtype.kind == "O" and all(isinstance(item, str | bytes) for item in array.flat):
        return np.array([_text(item) for item in array.flat], dtype=str).reshape(array.shape)
    return array


def _text(item: str | bytes) -> str:
    return item.decode("utf-8", errors="replace") if isinstance(item, bytes) else item
