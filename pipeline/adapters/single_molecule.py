"""One file per molecule, without padding."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Int

from pipeline.adapters.columns import Block, Column
from pipeline.adapters.layout import Fit, Layout, Names
from pipeline.adapters.npz import NpzFile
from pipeline.adapters.padded import layout_of, metadata_of
from store_schema.problems import SourceError


class SingleMoleculeSource:
    """NPZ files of one molecule each that have the same keys, as one padded source."""

    convention = "single_molecule"

    def __init__(self, files: Sequence[NpzFile], names: Names) -> None:
        """Reads the shapes of the files.

        Raises:
            SourceError: A file does not have the same keys in the same sense.
        """
        self._files = tuple(files)
        self.files = tuple(file.path for file in files)
        first = files[0].path
        self.place = str(first if len(files) == 1 else first.parent / f"*{first.suffix}")
        self._layouts = [layout_of(file, names) for file in files]
        self.layout = _joint(self._layouts, self.files)
        self.columns: Mapping[str, Column] = files[0].columns
        self.metadata: Mapping[str, str] = metadata_of(files[0], self._layouts[0])

    def blocks(self, n_molecules: int) -> Iterator[Block]:
        """Reads all molecules in order; see ``Source.blocks``."""
        for start in range(0, len(self._files), n_molecules):
            yield self.sample(np.arange(start, min(start + n_molecules, len(self._files))))

    def sample(self, rows: Int[np.ndarray, " row"]) -> Block:
        """Reads some molecules; see ``Source.sample``."""
        columns = {
            key: _padded([self._read(row, key, fits[0]) for row in rows.tolist()], fits[0].shape)
            for key, fits in self.layout.fits.items()
        }
        for key in self.layout.kept:
            columns[key] = np.stack([self._files[row].read(key) for row in rows])
        return Block(int(rows[0]), columns)

    def stretch(self, start: int, stop: int) -> Block:
        """Reads consecutive molecules; see ``Source.stretch``."""
        return self.sample(np.arange(start, stop))

    def archives(self) -> dict[NpzFile, list[str]]:
        """Returns nothing: each file is read once; see ``Source.archives``."""
        return {}

    def identity(self, row: int) -> str:
        """Returns the file's name without its ending."""
        return self.files[row].stem

    def _read(self, row: int, key: str, fit: Fit) -> np.ndarray:
        """Reads a key of one file in the shape its own number of atoms gives it."""
        layout = self._layouts[row]
        sizes = {"A": layout.max_atoms, "G": layout.max_grid}
        return self._files[row].read(key).reshape(fit.lengths(sizes))


def _joint(layouts: Sequence[Layout], files: Sequence[Path]) -> Layout:
    """The layout of all molecules together, as wide as the widest; readings all files allow."""
    first = layouts[0]
    sizes = {
        "A": max(layout.max_atoms for layout in layouts),
        "G": max(layout.max_grid for layout in layouts),
    }
    for layout, path in zip(layouts, files, strict=True):
        if layout.fits.keys() != first.fits.keys():
            raise _unlike(path, files[0], f"keys {', '.join(layout.fits)}")
    fits: dict[str, tuple[Fit, ...]] = {}
    for key, options in first.fits.items():
        common = [
            fit
            for fit in options
            if all(any(fit.reads_as(other) for other in o.fits[key]) for o in layouts)
        ]
        if not common:
            raise _unlike(files[0], files[-1], f"{key} of another shape")
        fits[key] = tuple(Fit(fit.semantics, fit.symbols, fit.lengths(sizes)) for fit in common)
    kept = {
        key: shape
        for key, shape in first.kept.items()
        if all(layout.kept.get(key) == shape for layout in layouts)
    }
    ignored = dict(first.ignored)
    unlike = sorted(first.kept.keys() - kept.keys())
    ignored |= dict.fromkeys(unlike, "its shape differs between files")
    return Layout(len(layouts), sizes["A"], sizes["G"], True, fits, kept, ignored)


def _unlike(path: Path, other: Path, received: str) -> SourceError:
    return SourceError.of(
        str(path),
        expected=f"the same keys in the same shapes as {other.name}",
        received=received,
        consequence="the files cannot be read as one set",
        remedy="Ingest it as a source of its own",
    )


def _padded(arrays: Sequence[np.ndarray], shape: tuple[int, ...]) -> np.ndarray:
    """Stacks arrays of different lengths; beyond an array's own is NaN, 0 or empty."""
    dtype = np.result_type(*arrays)
    fill = np.nan if dtype.kind == "f" else np.zeros((), dtype=dtype)[()]
    stacked = np.full((len(arrays), *shape), fill, dtype=dtype)
    for row, array in enumerate(arrays):
        stacked[row, ...][tuple(slice(length) for length in array.shape)] = array
    return stacked
