"""The classic convention: one file, one molecule per row, padded to common widths."""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np
from jaxtyping import Int

from pipeline.adapters.array_file import ArrayFile
from pipeline.adapters.columns import Block, Column
from pipeline.adapters.layout import COUNTS, METADATA, Layout, Names, propose
from pipeline.adapters.npz import NpzFile

# Why an array of objects is not stored.
OBJECTS: Final = "it holds Python objects, which were not read"


class PaddedSource:
    """One file whose arrays have a molecule axis, written out or flattened."""

    convention = "padded"

    def __init__(self, file: ArrayFile, names: Names) -> None:
        """Reads the shapes of a file.

        Raises:
            SourceError: They do not make molecules.
        """
        self.file = file
        self.place = str(file.path)
        self.files: tuple[Path, ...] = (file.path,)
        self.columns: Mapping[str, Column] = file.columns
        self.names = names
        self.layout = layout_of(file, names)
        self.metadata: Mapping[str, str] = metadata_of(file, self.layout)

    def blocks(self, n_molecules: int, only: Container[str] | None = None) -> Iterator[Block]:
        """Reads all molecules in order, or only some keys of them; see ``Source.blocks``."""
        yield from stream(self.file, self.layout, n_molecules, only)

    def sample(self, rows: Int[np.ndarray, " row"]) -> Block:
        """Reads some molecules; see ``Source.sample``."""
        return picked(self.file, self.layout, rows)

    def stretch(self, start: int, stop: int) -> Block:
        """Reads consecutive molecules; see ``Source.stretch``."""
        return self.sample(np.arange(start, stop))

    def archives(self) -> dict[NpzFile, list[str]]:
        """Returns the file and the keys with an axis of molecules; see ``Source.archives``."""
        fits = self.layout.fits
        shared = {key for key in fits if fits[key][0].shared}
        return unpackable(self.file, [k for k in (*fits, *self.layout.kept) if k not in shared])

    def identity(self, row: int) -> str:
        """Returns the file's name and the row."""
        return f"{self.file.path.stem}#{row}"


def layout_of(file: ArrayFile, names: Names, columns: Mapping[str, Column] | None = None) -> Layout:
    """Reads the shapes of a file; Python objects are left out, unread.

    Args:
        file: The file.
        names: What keys may mean.
        columns: Headers to read instead of the file's own.

    Raises:
        SourceError: They do not make molecules, or a key that is needed holds objects.
    """
    for key in file.objects:
        # Atoms and points are counted without.
        if {meaning.name for meaning in names.meanings(key)} - COUNTS:
            raise file.refused(key)
    layout = propose(columns or file.columns, str(file.path), names)
    return replace(layout, ignored={**layout.ignored, **dict.fromkeys(file.objects, OBJECTS)})


def unpackable(file: ArrayFile, keys: list[str]) -> dict[NpzFile, list[str]]:
    """Returns a file and keys of it that are worth unpacking; see ``Source.archives``."""
    return {file: keys} if isinstance(file, NpzFile) else {}


def metadata_of(file: ArrayFile, layout: Layout) -> dict[str, str]:
    """Returns the text of the entries that are of the whole file."""
    found = dict(file.attributes)
    for key, reason in layout.ignored.items():
        if reason == METADATA:
            values = np.atleast_1d(file.read(key)).ravel().tolist()
            found[key] = ", ".join(map(_text, values))
    return found


def _text(value: object) -> str:
    return value.decode("utf-8", errors="replace") if isinstance(value, bytes) else str(value)


def picked(file: ArrayFile, layout: Layout, rows: Int[np.ndarray, " row"]) -> Block:
    """Reads some rows of every key of a file.

    Raises:
        SourceError: The file is damaged.
    """
    columns: dict[str, np.ndarray] = {}
    for key, shape in {**{k: f[0].shape for k, f in layout.fits.items()}, **layout.kept}.items():
        if key in layout.fits and layout.fits[key][0].shared:
            array = file.read(key).reshape(shape)
            columns[key] = np.broadcast_to(array, (len(rows), *shape))
        else:
            columns[key] = file.pick(key, layout.n_molecules, rows).reshape(len(rows), *shape)
    return Block(int(rows[0]), columns)


def stream(
    file: ArrayFile, layout: Layout, n_molecules: int, only: Container[str] | None = None
) -> Iterator[Block]:
    """Reads the keys of a file in step, ``n_molecules`` at a time; ``only`` some, if given.

    Raises:
        SourceError: The file is damaged.
    """
    n = layout.n_molecules
    starts = range(0, n, n_molecules)
    sizes = [min(n_molecules, n - start) for start in starts]
    shared: dict[str, np.ndarray] = {}
    streams: dict[str, Iterator[np.ndarray]] = {}
    shapes: dict[str, tuple[int, ...]] = dict(layout.kept)
    wanted = [key for key in (*layout.fits, *layout.kept) if only is None or key in only]
    for key, fits in layout.fits.items():
        shapes[key] = fits[0].shape
        if key not in wanted:
            continue
        if fits[0].shared:
            shared[key] = file.read(key).reshape(fits[0].shape)
    for key in wanted:
        if key not in shared:
            streams[key] = file.rows(key, n, iter(sizes))
    for start, size in zip(starts, sizes, strict=True):
        columns = {key: next(rows).reshape(size, *shapes[key]) for key, rows in streams.items()}
        for key, array in shared.items():
            columns[key] = np.broadcast_to(array, (size, *array.shape))
        yield Block(start, columns)
