"""Molecules in memory, ragged: what batches are gathered from.

A window of a store, a preloaded store and molecules given by hand all become a
`MoleculeBuffer`, so that one gather pads them all.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Int32, Int64


@dataclass(frozen=True)
class MoleculeBuffer:
    """Molecules of any sizes, one flat array a field.

    Molecule i has its atoms at `atom_start[i]` and its grid points at
    `grid_start[i]` of the flat arrays of those dimensions. What lies between
    molecules is never read. Missing values are NaN.

    Attributes:
        rows: Row of each molecule in the store.
        n_atoms: Atoms of each molecule.
        n_grid: Grid points of each molecule; 0 where no grid field was asked for.
        atom_start: First atom of each molecule.
        grid_start: First grid point of each molecule.
        fields: Flat arrays by variable, in the store's units; absent ones are missing
            for every molecule.
    """

    rows: Int32[np.ndarray, " n"]
    n_atoms: Int32[np.ndarray, " n"]
    n_grid: Int32[np.ndarray, " n"]
    atom_start: Int64[np.ndarray, " n"]
    grid_start: Int64[np.ndarray, " n"]
    fields: dict[str, np.ndarray]

    def positions(self, width: int) -> Float32[np.ndarray, "n width 3"]:
        """Returns positions padded to `width` atoms, NaN at padding."""
        atom = np.arange(width)
        index = self.atom_start[:, None] + atom
        padded = np.take(self.fields["positions"], index, axis=0, mode="clip")
        padded[atom >= self.n_atoms[:, None]] = np.nan
        return padded
