"""What a store holds: sizes, elements, charges, what is missing, what was quarantined."""

from __future__ import annotations

from collections import Counter

import numpy as np
import xarray as xr
from ase.data import chemical_symbols
from pydantic import BaseModel, ConfigDict

from pipeline.store.base import Store, StoreLike
from pipeline.store.splits import split_store
from store_schema import StoreSchema
from store_schema.names import MOLECULE, QUARANTINE_GROUP, RESULTS_GROUP

# Molecules read at once; bounds memory whatever the size of the store.
_BLOCK = 8192
# Bars of a histogram.
_RANGES = 10


class Distribution(BaseModel):
    """Minimum, median, mean and maximum of a size over molecules."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    minimum: float
    median: float
    mean: float
    maximum: float


class Histogram(BaseModel):
    """How many molecules have which size, in ranges of equal width.

    Attributes:
        lowest: Least size of each range.
        highest: Largest size of each range.
        counts: Molecules in each.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    lowest: tuple[int, ...]
    highest: tuple[int, ...]
    counts: tuple[int, ...]


class StoreInspection(BaseModel):
    """What is in a store.

    Attributes:
        store: Its path.
        store_schema: Its schema, with the meaning, unit and evidence of every source key.
        sizes: Distribution of atoms and of grid points per molecule.
        histograms: The same in ranges.
        elements: Atoms of each element.
        total_charges: Molecules of each total charge; ``unknown`` where it is missing.
        present: Molecules that have each variable.
        quarantine: Molecules set aside, by reason.
        splits: Molecules of each default split.
        results: Names of the results groups.
        bytes_on_disk: Size of all files; None where it is not a local folder.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    store: str
    store_schema: StoreSchema
    sizes: dict[str, Distribution]
    histograms: dict[str, Histogram]
    elements: dict[str, int]
    total_charges: dict[str, int]
    present: dict[str, int]
    quarantine: dict[str, int]
    splits: dict[str, int]
    results: tuple[str, ...]
    bytes_on_disk: int | None


def inspect_store(store: StoreLike) -> StoreInspection:
    """Looks into a store, block by block.

    Raises:
        StoreError: There is no store, or its schema is not valid.
    """
    store = Store.at(store)
    schema, tree = store.schema(), store.tree()
    with store.reading():
        return _inspected(store, schema, tree)


def _inspected(store: Store, schema: StoreSchema, tree: xr.DataTree) -> StoreInspection:
    molecules = tree.to_dataset()
    elements, charges, present = _count(molecules)
    return StoreInspection(
        store=str(store),
        store_schema=schema,
        sizes={
            name: _distribution(molecules[name].values)
            for name in ("n_atoms", "n_grid")
            if schema.n_molecules
        },
        histograms={
            name: _histogram(molecules[name].values)
            for name in ("n_atoms", "n_grid")
            if schema.n_molecules
        },
        elements={chemical_symbols[z]: n for z, n in sorted(elements.items())},
        total_charges=dict(sorted(charges.items())),
        present=dict(present),
        quarantine=_quarantine(tree),
        splits=split_store(store).counts if schema.n_molecules else {},
        results=tuple(tree[RESULTS_GROUP].children) if RESULTS_GROUP in tree.children else (),
        bytes_on_disk=store.size(),
    )


def _count(molecules: xr.Dataset) -> tuple[Counter[int], Counter[str], Counter[str]]:
    elements: Counter[int] = Counter()
    charges: Counter[str] = Counter()
    present: Counter[str] = Counter()
    variables = {**molecules.data_vars, **molecules.coords}
    for start in range(0, molecules.sizes.get(MOLECULE, 0), _BLOCK):
        block = molecules.isel({MOLECULE: slice(start, start + _BLOCK)})
        numbers, counts = np.unique(block["atomic_numbers"].values, return_counts=True)
        elements.update({int(z): int(n) for z, n in zip(numbers, counts, strict=True) if z})
        for name in variables:
            present[str(name)] += int(_has_value(block[name]).sum())
        if "total_charge" in block:
            values = block["total_charge"].values
            charges.update(
                "unknown" if np.isnan(q) else f"{q:+g}" if q else "0" for q in values.tolist()
            )
    return elements, charges, present


def _has_value(variable: xr.DataArray) -> np.ndarray:
    # A molecule's first entry shows it: padding follows what is there.
    first = variable
    while first.ndim > 1:
        first = first.isel({first.dims[-1]: 0})
    values = first.values
    return ~np.isnan(values) if values.dtype.kind == "f" else np.ones(values.shape, bool)


def _distribution(values: np.ndarray) -> Distribution:
    return Distribution(
        minimum=float(values.min()),
        median=float(np.median(values)),
        mean=float(values.mean()),
        maximum=float(values.max()),
    )


def _histogram(sizes: np.ndarray) -> Histogram:
    least, most = int(sizes.min()), int(sizes.max())
    width = -(-(most - least + 1) // _RANGES)
    lowest = range(least, most + 1, width)
    counts = np.bincount((sizes - least) // width, minlength=len(lowest))
    return Histogram(
        lowest=tuple(lowest),
        highest=tuple(min(low + width - 1, most) for low in lowest),
        counts=tuple(map(int, counts)),
    )


def _quarantine(tree: xr.DataTree) -> dict[str, int]:
    if QUARANTINE_GROUP not in tree.children:
        return {}
    reasons = tree[QUARANTINE_GROUP].to_dataset()["reason"].values
    return dict(Counter(str(reason) for reason in reasons).most_common())
