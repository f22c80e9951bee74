"""What an adapter offers: columns that can be read in step, in bounded memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int

from pipeline.adapters.columns import Block, Column

if TYPE_CHECKING:
    from pipeline.adapters.layout import Layout
    from pipeline.adapters.npz import NpzFile


@runtime_checkable
class Source(Protocol):
    """Files that together hold some molecules, in one convention.

    Attributes:
        convention: Name of the convention.
        place: How messages name the source.
        files: The files, in the order they are read.
        columns: Header of every key.
        layout: What the shapes mean.
        metadata: Text of the entries that are not per molecule.
    """

    convention: str
    place: str
    files: tuple[Path, ...]
    columns: Mapping[str, Column]
    layout: Layout
    metadata: Mapping[str, str]

    def blocks(self, n_molecules: int) -> Iterator[Block]:
        """Reads all molecules in order, ``n_molecules`` at a time.

        Raises:
            SourceError: A file is damaged, or files of the same molecules disagree.
        """
        ...

    def sample(self, rows: Int[np.ndarray, " row"]) -> Block:
        """Reads some molecules, by their rows in ascending order.

        Raises:
            SourceError: A file is damaged.
        """
        ...

    def stretch(self, start: int, stop: int) -> Block:
        """Reads consecutive molecules, as ``blocks`` does; checksums are left to ``unpack``.

        Raises:
            SourceError: A file is damaged, or files of the same molecules disagree.
        """
        ...

    def archives(self) -> Mapping[NpzFile, Sequence[str]]:
        """Returns files worth unpacking before ``stretch``, and the keys it reads of each."""
        ...

    def identity(self, row: int) -> str:
        """Returns the name of a molecule whose file gives it none."""
        ...
