"""Several files that hold columns of the same molecules, such as energies and grids."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from jaxtyping import Int

from pipeline.adapters.array_file import spilled
from pipeline.adapters.columns import Block, Column
from pipeline.adapters.layout import Fit, Layout
from pipeline.adapters.npz import NpzFile
from pipeline.adapters.padded import PaddedSource
from pipeline.chemistry.arrays import element_numbers
from store_schema.problems import SourceError

# Keys that say which molecule a row is; present in several files, they must agree.
_IDENTITY = ("molecule_id", "atomic_numbers", "positions", "n_atoms")
# float32 rounding of coordinates, in whatever length unit both files share.
_SAME_POSITION = 1e-4


class SplitByRoleSource:
    """Files joined by id, or else by equal atomic numbers and positions, in any row order."""

    convention = "split_by_role"

    def __init__(self, parts: Sequence[PaddedSource]) -> None:
        """Joins the rows of the files.

        Raises:
            SourceError: They do not hold the same molecules.
        """
        self._parts = tuple(parts)
        self.files = tuple(path for part in parts for path in part.files)
        self.place = " + ".join(part.place for part in parts)
        self._orders = [None, *(_order(parts[0], part) for part in parts[1:])]
        columns: dict[str, Column] = {}
        metadata: dict[str, str] = {}
        for part in parts:
            columns = {**part.columns, **columns}
            metadata = {**part.metadata, **metadata}
        self.columns: Mapping[str, Column] = columns
        self.metadata: Mapping[str, str] = metadata
        self.layout = self._joint_layout()

    def blocks(self, n_molecules: int) -> Iterator[Block]:
        """Reads all molecules in the order of the first file; see ``Source.blocks``."""
        first, *others = (
            _stream(part, order, n_molecules)
            for part, order in zip(self._parts, self._orders, strict=True)
        )
        for block in first:
            columns = dict(block.columns)
            for part, stream in zip(self._parts[1:], others, strict=True):
                more = next(stream).columns
                _check_same(self._parts[0], part, block, more)
                for key, array in more.items():
                    if self._owner[key] is part:
                        columns[key] = array
            yield Block(block.start, columns)

    def sample(self, rows: Int[np.ndarray, " row"]) -> Block:
        """Reads some molecules; see ``Source.sample``."""
        return self._joined([self._picked(part, rows) for part in range(len(self._parts))])

    def stretch(self, start: int, stop: int) -> Block:
        """Reads consecutive molecules; see ``Source.stretch``."""
        rows = np.arange(start, stop)
        first, *others = [self._picked(part, rows) for part in range(len(self._parts))]
        for part, block in zip(self._parts[1:], others, strict=True):
            _check_same(self._parts[0], part, first, block.columns)
        return self._joined([first, *others])

    def archives(self) -> dict[NpzFile, list[str]]:
        """Returns the files of all parts; see ``Source.archives``."""
        return {file: keys for part in self._parts for file, keys in part.archives().items()}

    def _picked(self, part: int, rows: Int[np.ndarray, " row"]) -> Block:
        """Reads some molecules of one part, in the order of the first."""
        order = self._orders[part]
        theirs = rows if order is None else order[rows]
        ascending, back = np.unique(theirs, return_inverse=True)
        columns = self._parts[part].sample(ascending).columns
        return Block(int(rows[0]), {key: array[back] for key, array in columns.items()})

    def _joined(self, blocks: Sequence[Block]) -> Block:
        columns: dict[str, np.ndarray] = {}
        for part, block in zip(self._parts, blocks, strict=True):
            for key, array in block.columns.items():
                if self._owner.get(key) is part:
                    columns[key] = array
        return Block(blocks[0].start, columns)

    def identity(self, row: int) -> str:
        """Returns the first file's name and the row."""
        return self._parts[0].identity(row)

    def _joint_layout(self) -> Layout:
        """Readings of every key, from the first file that has it; structure from the first file."""
        first = self._parts[0].layout
        self._owner: dict[str, PaddedSource] = {}
        fits: dict[str, tuple[Fit, ...]] = {}
        kept: dict[str, tuple[int, ...]] = {}
        ignored: dict[str, str] = {}
        for part in self._parts:
            layout = part.layout
            if layout.max_atoms != first.max_atoms:
                raise SourceError.of(
                    part.place,
                    wrong=f"its molecules are padded to {layout.max_atoms} atoms, those of "
                    f"{self._parts[0].place} to {first.max_atoms}",
                    consequence="their columns cannot be put side by side",
                    remedy="Pad both files alike",
                )
            for key in (*layout.fits, *layout.kept, *layout.ignored):
                if key in self._owner or self._repeats_identity(part, key):
                    continue
                self._owner[key] = part
                if key in layout.fits:
                    fits[key] = layout.fits[key]
                elif key in layout.kept:
                    kept[key] = layout.kept[key]
                else:
                    ignored[key] = layout.ignored[key]
        grid = max(part.layout.max_grid for part in self._parts)
        return Layout(first.n_molecules, first.max_atoms, grid, False, fits, kept, ignored)

    def _repeats_identity(self, part: PaddedSource, key: str) -> bool:
        """Whether a key only repeats what the first file says of its molecules."""
        fits = part.layout.fits.get(key, ())
        return (
            part is not self._parts[0]
            and len(fits) == 1
            and fits[0].semantics in _IDENTITY
            and self._parts[0].layout.key_of(fits[0].semantics) is not None
        )


def join_if_same(left: PaddedSource, right: PaddedSource) -> bool:
    """Says whether two files hold different columns of the same molecules.

    They do if they have the same ids (or, without ids, the same atoms in some order), and
    share nothing but what says which molecule a row is.
    """
    if left.layout.n_molecules != right.layout.n_molecules:
        return False
    meant = [
        {fit.semantics for fits in part.layout.fits.values() for fit in fits} - set(_IDENTITY)
        for part in (left, right)
    ]
    if meant[0] & meant[1]:
        return False
    try:
        _order(left, right)
    except SourceError:
        return False
    return True


def _order(left: PaddedSource, right: PaddedSource) -> Int[np.ndarray, " molecule"] | None:
    """Rows of ``right`` in the order of ``left``; None if they are in order already.

    Raises:
        SourceError: They are not the same molecules, or cannot be distinguished.
    """
    names = [_fingerprints(part, by_id=_have_ids(left, right)) for part in (left, right)]
    if names[0] == names[1]:
        return None
    place = {name: row for row, name in enumerate(names[1])}
    missing = [row for row, name in enumerate(names[0]) if name not in place]
    if missing or len(names[0]) != len(names[1]) or len(place) != len(names[1]):
        wrong = (
            f"{len(missing)} molecules are in one file only, the first in row {missing[0]}"
            if missing
            else f"the files have {len(names[0])} and {len(names[1])} molecules, {len(place)} of "
            "them distinct"
        )
        raise SourceError.of(
            f"{left.place} + {right.place}",
            wrong=wrong,
            consequence="rows cannot be joined",
            remedy="Ingest files of different molecules as separate sources",
        )
    return np.array([place[name] for name in names[0]])


def _have_ids(*parts: PaddedSource) -> bool:
    return all(part.layout.key_of("molecule_id") for part in parts)


def _fingerprints(part: PaddedSource, *, by_id: bool) -> list[str]:
    """What identifies each row: the id, or the atoms and where they are."""
    key = part.layout.key_of("molecule_id") if by_id else None
    n = part.layout.n_molecules
    if key is not None:
        return [str(name) for name in part.file.read(key).reshape(n)]
    names: list[str] = []
    numbers, positions = (part.layout.key_of(name) for name in ("atomic_numbers", "positions"))
    for block in part.blocks(1024, only=(str(numbers), str(positions))):
        elements = element_numbers(block.columns[str(numbers)])
        for z, r in zip(elements, block.columns[str(positions)], strict=True):
            real = z > 0
            rounded = np.round(r[real].astype(np.float64), 3) + 0.0
            said = z[real].astype(np.int64).tobytes() + rounded.tobytes()
            names.append(hashlib.blake2b(said, digest_size=16).hexdigest())
    return names


def _stream(
    part: PaddedSource, order: Int[np.ndarray, " molecule"] | None, n_molecules: int
) -> Iterator[Block]:
    """Reads a file in step, or in another order from an unpacked copy."""
    if order is None:
        yield from part.blocks(n_molecules)
        return
    layout, n = part.layout, part.layout.n_molecules
    shapes = {key: fits[0].shape for key, fits in layout.fits.items() if not fits[0].shared}
    shapes |= layout.kept
    shared = {key: fits[0].shape for key, fits in layout.fits.items() if fits[0].shared}
    rows = {key: spilled(part.file, key, n) for key in shapes}
    for start in range(0, n, n_molecules):
        chosen = order[start : start + n_molecules]
        columns = {k: np.array(rows[k][chosen]).reshape(-1, *s) for k, s in shapes.items()}
        for key, shape in shared.items():
            array = part.file.read(key).reshape(shape)
            columns[key] = np.broadcast_to(array, (len(chosen), *shape))
        yield Block(start, columns)


def _check_same(
    left: PaddedSource, right: PaddedSource, block: Block, columns: Mapping[str, np.ndarray]
) -> None:
    """Raises a SourceError where files give the same molecule different atoms."""
    for semantics in ("atomic_numbers", "positions"):
        keys = left.layout.key_of(semantics), right.layout.key_of(semantics)
        if None in keys:
            continue
        ours, theirs = block.columns[str(keys[0])], columns[str(keys[1])]
        real = element_numbers(block.columns[str(left.layout.key_of("atomic_numbers"))]) > 0
        if semantics == "atomic_numbers":
            ours, theirs = element_numbers(ours), element_numbers(theirs)
        agree = np.isclose(ours, theirs, rtol=0, atol=_SAME_POSITION, equal_nan=True)
        agree = agree.reshape(*real.shape, -1).all(axis=-1) | ~real
        if not agree.all():
            row = block.start + int(np.flatnonzero(~agree.all(axis=1))[0])
            raise SourceError.of(
                f"{left.place} + {right.place}, row {row}",
                wrong=f"the files differ in the {semantics.replace('_', ' ')} "
                f"({keys[0]} and {keys[1]})",
                consequence="the columns belong to different molecules",
                remedy="Check the ids, or ingest the files as separate sources",
            )
