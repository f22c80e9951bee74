"""What files hold, as they have it: headers of arrays, and rows of all arrays together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np


class Column(NamedTuple):
    """Header of one array of a file.

    Attributes:
        shape: Shape in the file.
        dtype: numpy dtype in the file.
    """

    shape: tuple[int, ...]
    dtype: np.dtype


class Block(NamedTuple):
    """Consecutive molecules of a source, as the files have them.

    Attributes:
        start: Row in the source of the first molecule.
        columns: Array of each key, molecules first, in the shape the layout gives it.
    """

    start: int
    columns: Mapping[str, np.ndarray]

    @property
    def n_molecules(self) -> int:
        """Molecules in the block."""
        return len(next(iter(self.columns.values())))
