"""Groups of an HDF5 file that hold a molecule each, however deep they lie."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from pipeline.adapters.columns import Column
from pipeline.adapters.hdf5 import Entry, Hdf5, contents
from pipeline.adapters.layout import Names, name_remedy
from pipeline.adapters.records import Header, distinct
from store_schema.problems import SourceError

if TYPE_CHECKING:
    import h5py

# Groups within groups; HDF5 itself knows no end of it.
_MAX_DEPTH: Final = 32


class _Place(NamedTuple):
    """Where an entry lies, seen from the group of its record.

    Attributes:
        levels_up: Groups between: 0 for the record's own.
        name: Path from there.
        is_attribute: Whether it is an attribute.
    """

    levels_up: int
    name: str
    is_attribute: bool


_Found = tuple[_Place, Entry]


@dataclass(frozen=True)
class Record:
    """A group with the atoms of a molecule, or of several.

    Attributes:
        path: Path of the group.
        header: Column of each key.
        places: Where each of them is.
        units: What their own attributes say of their units.
        unread: Keys that cannot be read, with the reason.
    """

    path: str
    header: Header
    places: Mapping[str, _Place]
    units: Mapping[str, str]
    unread: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, path: str, entries: Mapping[str, _Found]) -> Record:
        """Sorts the entries of a group into what can be read, and the rest."""
        header, units, unread = {}, {}, {}
        for key, (_, entry) in entries.items():
            if entry.column is None:
                unread[key] = entry.unread
            elif 0 not in entry.column.shape:  # none of them is how files say "missing"
                header[key] = entry.column
                if entry.unit:
                    units[key] = entry.unit
        places = {key: place for key, (place, _) in entries.items() if key in header}
        return cls(path, header, places, units, unread)

    def read(self, file: Hdf5, key: str, part: slice) -> np.ndarray:
        """Reads an array, or a part of it along its first axis.

        Raises:
            SourceError: The file is damaged, or the values are not in it.
        """
        place = self.places[key]
        steps = self.path.split("/")
        group = "/".join(steps[: len(steps) - place.levels_up]) or "/"
        if not place.is_attribute:
            return file.values(f"{group}/{place.name}", part)
        value = file.attribute(group, place.name)
        return value[part] if value.ndim else value


class Hdf5Groups:
    """Groups of one molecule each; see ``pipeline.adapters.records.Records``."""

    convention = "hdf5_groups"

    def __init__(
        self,
        file: Hdf5,
        records: list[Record],
        names: Names,
        metadata: Mapping[str, str],
        left_out: Sequence[str] = (),
    ) -> None:
        """Takes the groups of a file.

        Args:
            file: The file.
            records: Its groups with molecules.
            names: What keys may mean.
            metadata: Text of the file.
            left_out: Groups that have something of a molecule, but no molecule.

        Raises:
            SourceError: They name different units for the same key.
        """
        self._file, self._records = file, records
        self._molecules = _molecules(records, names)
        self.place = str(file.path)
        self.files: tuple[Path, ...] = (file.path,)
        self.metadata: Mapping[str, str] = {**metadata, **units_of(records, self.place)}
        self.unread: Mapping[str, str] = {
            key: why for record in records for key, why in record.unread.items()
        }
        if left_out:
            others = f" and {len(left_out) - 1} groups more" if len(left_out) > 1 else ""
            reason = "there are no positions, or no atomic numbers"
            self.unread = {**self.unread, f"what is in {left_out[0]}{others}": reason}
        self.kinds, self.kind_of = distinct(record.header for record in records)

    def name(self, record: int) -> str:
        """Returns the path of the group, with slashes only behind a group of one molecule."""
        parent, _, name = self._records[record].path.rpartition("/")
        path = parent.lstrip("/").replace("/", ":")
        return f"{path}{'/' if parent in self._molecules else ':'}{name}" if path else name

    def read(self, record: int, parts: Mapping[str, slice]) -> dict[str, np.ndarray]:
        """Reads arrays of a group; see ``Records.read``."""
        found = self._records[record]
        return {key: found.read(self._file, key, part) for key, part in parts.items()}


def _molecules(records: Iterable[Record], names: Names) -> set[str]:
    """Groups whose groups all have as many atoms: geometries of one molecule."""
    sizes: dict[str, set[int]] = defaultdict(set)
    for record in records:
        positions = names.first(record.header, "positions")
        shape = record.header[str(positions)].shape
        sizes[record.path.rpartition("/")[0]].add(shape[-2] if len(shape) > 1 else shape[0])
    return {path for path, found in sizes.items() if len(found) == 1}


def units_of(records: Iterable[Record], place: str) -> dict[str, str]:
    """Returns what attributes of arrays say of their units, as entries of the file.

    Raises:
        SourceError: They say different things of one key.
    """
    units: dict[str, str] = {}
    for record in records:
        for key, unit in record.units.items():
            if units.setdefault(f"{key}_units", unit) != unit:
                raise SourceError.of(
                    f"{place}, {record.path}/{key}",
                    wrong=f"it is in {unit!r} here and in {units[f'{key}_units']!r} in the "
                    "groups before",
                    consequence="nothing was stored",
                    remedy="Write all groups in one unit, or each kind in a file of its own",
                )
    return units


def records_of(file: Hdf5, names: Names) -> tuple[list[Record], dict[str, str], list[str]]:
    """Finds the groups of a file that hold positions, and atomic numbers there or further up.

    Returns:
        The groups, in the order of their names; the text that is of the whole file; and groups
        that have something of a molecule, but not these.

    Raises:
        SourceError: There is no such group, or the file is damaged.
    """
    with file.opened() as root:
        search = _Search(names)
        records = list(search.within(root, "", {}, 0))
        singles = [
            name
            for name, entry in contents(root)[0].items()
            if entry.is_attribute and entry.column and math.prod(entry.column.shape) == 1
        ]
    metadata = {name: str(file.attribute("/", name).item()) for name in singles}
    if records:
        return records, metadata, search.left_out
    raise SourceError.of(
        str(file.path),
        wrong=(
            "no group has atomic numbers (Z) and positions (R); its arrays are named "
            + (", ".join(list(search.met)[:20]) or "nothing")
        ),
        consequence="there are no molecules to store",
        remedy=name_remedy(("atomic_numbers", "positions")),
    )


class _Search:
    """A walk through the groups of a file."""

    def __init__(self, names: Names) -> None:
        self._names = names
        self._seen: set[object] = set()
        self.met: dict[str, None] = {}
        self.left_out: list[str] = []

    def within(
        self, group: h5py.Group, path: str, inherited: Mapping[str, _Found], depth: int
    ) -> Iterator[Record]:
        """Yields the records in a group."""
        if not self._is_new(group, depth):
            return
        entries, groups = contents(group)
        self.met.update(dict.fromkeys(entries))
        own = {key: (_Place(0, key, e.is_attribute), e) for key, e in entries.items()}
        if self._has(own, "positions") and self._has({**inherited, **own}, "atomic_numbers"):
            nested = self._nested(group, groups, own)
            yield Record.of(path, {**inherited, **nested, **own})
            return
        known = {key: found for key, found in own.items() if self._names.meanings(key)}
        if known and not groups:
            self.left_out.append(path)
        below = {
            key: (place._replace(levels_up=place.levels_up + 1), entry)
            for key, (place, entry) in {**inherited, **known}.items()
        }
        for name in groups:
            yield from self.within(group[name], f"{path}/{name}", below, depth + 1)

    def _is_new(self, group: h5py.Group, depth: int) -> bool:
        """Whether a group is met for the first time: several links may lead to it."""
        if depth > _MAX_DEPTH:
            raise ValueError(f"groups lie more than {_MAX_DEPTH} deep")
        new = group.id not in self._seen
        self._seen.add(group.id)
        return new

    def _has(self, entries: Mapping[str, _Found], semantics: str) -> bool:
        columns: dict[str, Column] = {
            key: entry.column
            for key, (_, entry) in entries.items()
            if entry.column is not None and 0 not in entry.column.shape
        }
        return self._names.first(columns, semantics) is not None

    def _nested(
        self, group: h5py.Group, groups: Iterable[str], own: Container[str]
    ) -> dict[str, _Found]:
        """Arrays of the groups within a record, by their last name where only one has it."""
        found: dict[str, list[tuple[str, Entry]]] = defaultdict(list)
        waiting = [(name, group[name]) for name in groups]
        while waiting:
            path, inner = waiting.pop(0)
            if not self._is_new(inner, path.count("/")):
                continue
            entries, below = contents(inner)
            for name, entry in entries.items():
                if not entry.is_attribute:
                    found[name].append((f"{path}/{name}", entry))
            waiting += [(f"{path}/{name}", inner[name]) for name in below]
        return {
            path.replace("/", ".") if len(places) > 1 or name in own else name: (
                _Place(0, path, False),
                entry,
            )
            for name, places in found.items()
            for path, entry in places
        }
