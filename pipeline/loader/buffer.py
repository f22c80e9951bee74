"""Molecules in memory: what batches are gathered from.

A window of a store, a preloaded store and molecules given by hand all become a
`MoleculeBuffer`, so that one gather pads them all.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int32

from pipeline.loader.batch import GRID_FIELDS, WHOLE_MOLECULE_FIELDS
from store_schema.names import ATOM, AXES, GRID_POINT, VARIABLES


@dataclass(frozen=True)
class MoleculeBuffer:
    """Molecules padded to common widths.

    Attributes:
        rows: Row of each molecule in the store.
        n_atoms: Atoms of each molecule.
        n_grid: Grid points of each molecule; 0 where no grid field was asked for.
        fields: Arrays by variable, one molecule per row. Missing values are zero, but NaN in
            monopoles; what lies behind a molecule's atoms and points is never looked at.
        present: Which molecules have each target but monopoles.
    """

    rows: Int32[np.ndarray, " n"]
    n_atoms: Int32[np.ndarray, " n"]
    n_grid: Int32[np.ndarray, " n"]
    fields: dict[str, np.ndarray]
    present: dict[str, Bool[np.ndarray, " n"]]


def settle_missing(fields: dict[str, np.ndarray], n: int) -> dict[str, Bool[np.ndarray, " n"]]:
    """Tells which of n molecules have each target but monopoles, and zeroes the rest.

    Once for all molecules, it need not be done for every batch. An ESP and its grid are
    there whole or not at all, which ingest sees to, so that their first point shows it.
    """
    present = {}
    for name in (*WHOLE_MOLECULE_FIELDS, *GRID_FIELDS):
        if name in fields:
            field = fields[name][:n]
            shown = field[:, :1] if name in GRID_FIELDS else field
            present[name] = ~np.isnan(shown).any(axis=tuple(range(1, shown.ndim)))
            field[~present[name]] = 0
    return present


def field_shape(name: str, n: int, atoms: int, grid_points: int) -> tuple[int, ...]:
    """Returns the shape of a variable for n molecules of these widths."""
    sizes = {ATOM: atoms, GRID_POINT: grid_points, **AXES}
    return (n, *(sizes[dim] for dim in VARIABLES[name].dims[1:]))


def empty_fields(
    names: Iterable[str], n: int, atoms: int, grid_points: int
) -> dict[str, np.ndarray]:
    """Allocates variables for n molecules; memory that nothing is written to costs nothing."""
    return {
        name: np.empty(field_shape(name, n, atoms, grid_points), VARIABLES[name].dtype)
        for name in names
    }
