"""Records as one source: as wide as the widest of them, and missing what some lack."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

from pipeline.adapters.columns import Block, Column
from pipeline.adapters.layout import AMBIGUOUS, Fit, Layout, Names, propose
from pipeline.adapters.npz import NpzFile
from pipeline.adapters.records import Header, Records
from store_schema.problems import SourceError

# Meanings whose values are checked by themselves, so that their names may differ.
_ALIKE = {"atomic_numbers", "positions", "total_charge", "molecule_id", "n_atoms"}


class RecordsSource:
    """Records as one source, as wide as the widest; a key that some lack is missing there."""

    def __init__(self, records: Records, names: Names) -> None:
        """Reads the shapes of all records.

        Raises:
            SourceError: They do not make molecules, or a key has no shape that all allow.
        """
        self._records = records
        self.convention = records.convention
        self.place, self.files, self.metadata = records.place, records.files, records.metadata
        synonyms = _synonyms(records.kinds, names)
        self._kinds = [_Kind.of(header, names, records.place, synonyms) for header in records.kinds]
        sizes = np.array([kind.layout.n_molecules for kind in self._kinds], np.int64)
        self._ends: Int[np.ndarray, " record"] = np.cumsum(sizes[records.kind_of])
        self.layout = _joint(self._kinds, int(self._ends[-1]), records)
        self._shapes = {key: fits[0].shape for key, fits in self.layout.fits.items()}
        self._shapes |= self.layout.kept
        self.columns: Header = self._headers()

    def blocks(self, n_molecules: int) -> Iterator[Block]:
        """Reads all molecules in order; see ``Source.blocks``."""
        n = self.layout.n_molecules
        for start in range(0, n, n_molecules):
            yield self.stretch(start, min(start + n_molecules, n))

    def sample(self, rows: Int[np.ndarray, " row"]) -> Block:
        """Reads some molecules; see ``Source.sample``."""
        parts: dict[str, list[np.ndarray | None]] = defaultdict(list)
        lengths: list[int] = []
        records = np.searchsorted(self._ends, rows, side="right")
        for run in np.split(np.arange(len(rows)), np.flatnonzero(np.diff(records)) + 1):
            record = int(records[run[0]])
            found = self._read(record, rows[run] - self._start(record))
            lengths.append(len(run))
            for key in self._shapes:
                parts[key].append(found.get(key))
        columns = {
            key: _padded(arrays, lengths, self._shapes[key], self.columns[key].dtype)
            for key, arrays in parts.items()
        }
        return Block(int(rows[0]), columns)

    def stretch(self, start: int, stop: int) -> Block:
        """Reads consecutive molecules; see ``Source.stretch``."""
        return self.sample(np.arange(start, stop))

    def archives(self) -> dict[NpzFile, list[str]]:
        """Returns nothing: records are read one by one; see ``Source.archives``."""
        return {}

    def identity(self, row: int) -> str:
        """Returns the name of the record, with the number of the geometry where it has several.

        What stands before the last slash is what splits keep together: the molecule.
        """
        record = int(np.searchsorted(self._ends, row, side="right"))
        name, start = self._records.name(record), self._start(record)
        if self._ends[record] - start == 1:
            return name
        return f"{name.replace('/', ':')}/{row - start}"

    def _start(self, record: int) -> int:
        return int(self._ends[record - 1]) if record else 0

    def _headers(self) -> dict[str, Column]:
        """Headers that the arrays would have if they were padded into one."""
        n, headers = self.layout.n_molecules, {}
        for key in dict.fromkeys(key for kind in self._kinds for key in kind.header):
            dtypes = [kind.header[key].dtype for kind in self._kinds if key in kind.header]
            dtype = self._joint_dtype(key, dtypes)
            headers[key] = Column((n, *self._shapes.get(key, ())), dtype)
        return headers

    def _joint_dtype(self, key: str, dtypes: Sequence[np.dtype]) -> np.dtype:
        """The dtype of a key over all records; numbers that some lack have to be NaN there."""
        if len({dtype.kind in "US" for dtype in dtypes}) > 1:
            raise _unlike(self._records, key, "it is text in some records and numbers in others")
        dtype = np.result_type(*dtypes)
        everywhere = len(dtypes) == len(self._kinds)
        return dtype if everywhere or dtype.kind in "fUS" else np.dtype(np.float64)

    def _read(self, record: int, rows: Int[np.ndarray, " row"]) -> dict[str, np.ndarray]:
        """Reads some geometries of a record, each key in the shape its own size gives it."""
        kind = self._kinds[self._records.kind_of[record]]
        keys = [key for key in kind.header if key in self._shapes]
        window = slice(int(rows[0]), int(rows[-1]) + 1)
        whole = slice(None)
        parts = {kind.own[key]: window if key in kind.by_rows else whole for key in keys}
        found = self._records.read(record, parts)
        columns = {}
        for key in keys:
            array = found[kind.own[key]]
            lengths = self._lengths(kind, key)
            if key in kind.once:
                columns[key] = np.broadcast_to(array.reshape(lengths), (len(rows), *lengths))
            else:
                chosen = rows - rows[0] if key in kind.by_rows else rows
                columns[key] = array.reshape(-1, *lengths)[chosen]
        return columns

    def _lengths(self, kind: _Kind, key: str) -> tuple[int, ...]:
        if key in self.layout.fits:
            return self.layout.fits[key][0].lengths(kind.sizes)
        return kind.layout.kept[key]


@dataclass(frozen=True)
class _Kind:
    """Records of one header.

    Attributes:
        header: Column of each key, as the record has it, by the name that all records share.
        own: The record's own names, by those.
        layout: What the shapes mean.
        once: Keys that are given once for all geometries.
        by_rows: Keys whose first axis is that of the geometries.
    """

    header: Header
    own: Mapping[str, str]
    layout: Layout
    once: frozenset[str]
    by_rows: frozenset[str]

    @classmethod
    def of(cls, given: Header, names: Names, place: str, synonyms: Mapping[str, str]) -> _Kind:
        """Reads the shapes of a record."""
        own = {synonyms.get(key, key): key for key in given}
        header = {shared: given[key] for shared, key in own.items()}
        positions = names.first(header, "positions")
        several = positions is not None and len(header[positions].shape) == 3
        n = header[positions].shape[0] if several and positions is not None else 1
        columns, once = {}, set()
        for key, column in header.items():
            if not several:
                columns[key] = Column((1, *column.shape), column.dtype)
            elif math.prod(column.shape) == 1 and key != names.first(header, "atomic_numbers"):
                columns[key] = Column((n,), column.dtype)
                once.add(key)
            else:
                columns[key] = column
        layout = propose(columns, place, names, n)
        once |= {key for key, fits in layout.fits.items() if fits[0].shared}
        rows = {key for key in columns if several and header[key].shape[:1] == (n,)}
        return cls(header, own, layout, frozenset(once), frozenset(rows - once))

    def is_ambiguous(self, key: str) -> bool:
        """Whether a key may hold a value for each atom as well as for each geometry."""
        n = self.layout.n_molecules
        alike = n == self.layout.max_atoms > 1
        return alike and key in self.by_rows and self.header[key].shape == (n,)

    @property
    def sizes(self) -> dict[str, int]:
        """Lengths of the axes that differ between molecules."""
        return {"A": self.layout.max_atoms, "G": self.layout.max_grid}


def _synonyms(kinds: Sequence[Header], names: Names) -> dict[str, str]:
    """Names of which no record has two, such as Z and numbers, or charge and Charge: the first.

    Values of others may be in different units, and stay apart.
    """
    groups: dict[object, dict[str, None]] = defaultdict(dict)
    for key in dict.fromkeys(key for header in kinds for key in header):
        known = tuple(meaning.name for meaning in names.meanings(key))
        groups[known if known and set(known) <= _ALIKE else key.lower()][key] = None
    return {
        key: first
        for first, *others in map(list, groups.values())
        for key in others
        if not any(len(header.keys() & {first, *others}) > 1 for header in kinds)
    }


def _joint(kinds: Sequence[_Kind], n: int, records: Records) -> Layout:
    """The layout of all molecules together, as wide as the widest; readings all records allow."""
    layouts = [kind.layout for kind in kinds]
    sizes = {axis: max(kind.sizes[axis] for kind in kinds) for axis in ("A", "G")}
    fits: dict[str, tuple[Fit, ...]] = {}
    kept: dict[str, tuple[int, ...]] = {}
    ignored: dict[str, str] = dict(records.unread)
    for key in dict.fromkeys(key for kind in kinds for key in kind.header):
        having = [kind for kind in kinds if key in kind.header]
        if any(key in kind.layout.fits for kind in having):
            fits[key] = _joint_fits(key, having, sizes, records)
            continue
        reasons = [kind.layout.ignored[key] for kind in having if key in kind.layout.ignored]
        if all(kind.is_ambiguous(key) for kind in having):
            reasons.append(AMBIGUOUS)
        shape = None if reasons else _joint_shape(key, having, sizes)
        if shape is None:
            ignored[key] = reasons[0] if reasons else "its shape differs between records"
        else:
            kept[key] = shape
    single = all(layout.n_molecules == 1 for layout in layouts)
    return Layout(n, sizes["A"], sizes["G"], single, fits, kept, ignored)


def _joint_fits(
    key: str, kinds: Sequence[_Kind], sizes: Mapping[str, int], records: Records
) -> tuple[Fit, ...]:
    """Readings of a key that every record which has it allows."""
    common = [
        Fit(fit.semantics, fit.symbols, fit.lengths(sizes))
        for fit in kinds[0].layout.fits.get(key, ())
        if all(
            any(fit.reads_as(other) for other in kind.layout.fits.get(key, ())) for kind in kinds
        )
    ]
    if not common:
        shapes = dict.fromkeys(str(kind.header[key].shape) for kind in kinds)
        raise _unlike(records, key, f"records have it in the shapes {', '.join(list(shapes)[:4])}")
    return tuple(common)


def _joint_shape(
    key: str, kinds: Sequence[_Kind], sizes: Mapping[str, int]
) -> tuple[int, ...] | None:
    """Shape per molecule of a key that is not known; None if records do not share one."""
    shapes = [kind.layout.kept[key] for kind in kinds]
    if len({len(shape) for shape in shapes}) > 1:
        return None
    joint = []
    for lengths in zip(*shapes, strict=True):
        axis = next(
            (
                axis
                for axis in sizes
                if all(
                    length == kind.sizes[axis] for length, kind in zip(lengths, kinds, strict=True)
                )
            ),
            None,
        )
        if len(set(lengths)) > 1 and axis is None:
            return None
        joint.append(lengths[0] if axis is None else sizes[axis])
    return tuple(joint)


def _padded(
    arrays: Sequence[np.ndarray | None],
    n_rows: Sequence[int],
    shape: tuple[int, ...],
    dtype: np.dtype,
) -> np.ndarray:
    """Joins arrays of different widths; NaN, 0 or no text beyond their own, and where one lacks."""
    if dtype.kind in "US":
        dtype = np.result_type(*[a.dtype for a in arrays if a is not None] or [np.dtype("U1")])
    fill = np.nan if dtype.kind == "f" else np.zeros((), dtype)[()]
    joined = np.full((sum(n_rows), *shape), fill, dtype)
    start = 0
    for array, n in zip(arrays, n_rows, strict=True):
        if array is not None:
            window = tuple(slice(length) for length in array.shape[1:])
            joined[start : start + n, ...][(slice(None), *window)] = array
        start += n
    return joined


def _unlike(records: Records, key: str, wrong: str) -> SourceError:
    return SourceError.of(
        f"{records.place}, {key}",
        wrong=wrong,
        consequence="they cannot be read as one set, and nothing was stored",
        remedy=f"Say that it is something else with --declare {key}=unknown, or ingest unlike "
        "records as sources of their own",
    )
