"""Refuses what a damaged store would make of molecules: a lost shard reads as fill values."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from jaxtyping import Bool, Float32, Int, Int64

from pipeline.compiled import compiled
from store_schema.dataset import StoreSchema
from store_schema.names import ATOM, GRID_POINT
from store_schema.problems import Problem, StoreError


def check_sizes(
    store: str,
    schema: StoreSchema,
    n_atoms: Int[np.ndarray, " molecule"],
    n_grid: Int[np.ndarray, " molecule"],
) -> None:
    """Refuses sizes that the arrays cannot have.

    Args:
        store: How messages name the store.
        schema: Its schema.
        n_atoms: Atoms of every molecule.
        n_grid: Grid points of every molecule.

    Raises:
        StoreError: A molecule has no atom, or more atoms or points than there is room for.
    """
    found = {
        "n_atoms": (n_atoms, 1, schema.max_atoms, ATOM),
        "n_grid": (n_grid, 0, schema.max_grid, GRID_POINT),
    }
    _refuse(
        store,
        {
            name: (
                f"are not {low} to {high}, the length of {dim!r}",
                sizes,
                (sizes < low) | (sizes > high),
            )
            for name, (sizes, low, high, dim) in found.items()
        },
        np.arange(len(n_atoms)),
    )


def check_structure(
    store: str,
    rows: Int64[np.ndarray, " n"],
    n_atoms: Int[np.ndarray, " n"],
    fields: Mapping[str, np.ndarray],
) -> None:
    """Refuses molecules with an atom that has no element or no place.

    Args:
        store: How messages name the store.
        rows: Rows that were read.
        n_atoms: Atoms of each.
        fields: What was read, at least as many molecules; padding may be anything.

    Raises:
        StoreError: There are such molecules.
    """
    checks = {
        "positions": ("lack the place of an atom", _without_place),
        "atomic_numbers": ("lack the element of an atom", _without_element),
    }
    wrong: dict[str, tuple[str, np.ndarray, np.ndarray]] = {}
    for name in checks.keys() & fields.keys():
        said, check = checks[name]
        values = fields[name][: len(rows)]
        wrong[name] = said, values, check(values, n_atoms)
    _refuse(store, wrong, rows)


@compiled
def _without_place(
    positions: Float32[np.ndarray, "n A 3"], n_atoms: Int[np.ndarray, " n"]
) -> Bool[np.ndarray, " n"]:
    wrong = np.zeros(len(n_atoms), np.bool_)
    for row in range(len(n_atoms)):
        for atom in range(n_atoms[row]):
            for axis in range(3):
                wrong[row] |= not np.isfinite(positions[row, atom, axis])
    return wrong


@compiled
def _without_element(
    atomic_numbers: Int[np.ndarray, "n A"], n_atoms: Int[np.ndarray, " n"]
) -> Bool[np.ndarray, " n"]:
    wrong = np.zeros(len(n_atoms), np.bool_)
    for row in range(len(n_atoms)):
        for atom in range(n_atoms[row]):
            wrong[row] |= atomic_numbers[row, atom] <= 0
    return wrong


def _refuse(
    store: str,
    found: Mapping[str, tuple[str, np.ndarray, np.ndarray]],
    rows: Int[np.ndarray, " n"],
) -> None:
    problems = [
        Problem(
            place=f"{store}, {name}",
            wrong=(
                f"{int(wrong.sum()):,} rows {said}, such as row {rows[wrong][0]}"
                + (f" ({values[wrong][0]})" if values.ndim == 1 else "")
            ),
            consequence="these molecules cannot be used",
            remedy="Check it with 'dcmnet validate STORE', or ingest the sources again",
        )
        for name, (said, values, wrong) in found.items()
        if wrong.any()
    ]
    if problems:
        raise StoreError(problems)
