"""Molecules of stores, and of files that are understood as ``ingest`` understands them.

Zarr, xarray and inference take a second to import, which predicting an XYZ file need not wait for.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

import numpy as np

from dcmnet.model.molecule import Structure
from dcmnet.prediction.inputs import WINDOW
from pipeline import open_store, read_schema
from pipeline.adapters import discover
from pipeline.inference.declarations import Declarations
from pipeline.ingestion.canonical import canonical
from pipeline.ingestion.plan import make_plans

_READ: Final = (
    "molecule_id",
    "n_atoms",
    "n_grid",
    "atomic_numbers",
    "positions",
    "total_charge",
)
_ESP: Final = ("esp", "vdw_surface")
# What a net charge is derived from, where nothing says it.
_CHARGE_FROM: Final = (*_ESP, "monopoles")


class StoredStructures:
    """Molecules of a store."""

    def __init__(self, store: str, with_esp: bool) -> None:
        read_schema(store)  # refuses any other Zarr
        self.place = store
        self._names = _READ + (_ESP if with_esp else ())

    def windows(self) -> Iterator[list[Structure]]:
        """Yields the molecules, some at a time."""
        molecules = open_store(self.place).to_dataset()
        names = [name for name in self._names if name in molecules]
        for start in range(0, molecules.sizes["molecule"], WINDOW):
            part = molecules[names].isel(molecule=slice(start, start + WINDOW)).load()
            yield _structures({name: part[name].values for name in names}, self.place)


class FileStructures:
    """Molecules of files, understood as an ingest would and never stored."""

    def __init__(
        self,
        source: str,
        with_esp: bool,
        declare: Mapping[str, str] | None,
        total_charge: float | None,
    ) -> None:
        self.place = source
        self._names = _READ + (_ESP if with_esp else ())
        declarations = Declarations.parse(declare)
        sources = discover([source], declared=declarations.semantics)
        charged = total_charge is not None or declarations.total_charge is not None
        charged = charged or all(each.layout.key_of("total_charge") for each in sources)
        # What is not asked for needs no unit; a net charge may have to be derived.
        asked = (*self._names, *(() if charged else _CHARGE_FROM))
        self._plans = make_plans(sources, declarations, only=asked)

    def windows(self) -> Iterator[list[Structure]]:
        """Yields the molecules, some at a time."""
        for plan in self._plans:
            for block in plan.source.blocks(min(WINDOW, plan.block_molecules)):
                values = canonical(block, plan.interpretation, plan.source).values
                chosen = {name: values[name] for name in self._names if name in values}
                yield _structures(chosen, plan.source.place)


def _structures(values: Mapping[str, np.ndarray], place: str) -> list[Structure]:
    """Makes molecules of the store's variables, padding cut off."""
    return [_of_row(values, row, place) for row in range(len(values["n_atoms"]))]


def _of_row(values: Mapping[str, np.ndarray], row: int, place: str) -> Structure:
    atoms = slice(int(values["n_atoms"][row]))
    charge = float(values["total_charge"][row]) if "total_charge" in values else np.nan
    esp: dict[str, Any] = {}
    if all(name in values for name in _ESP):
        points = slice(int(values["n_grid"][row]))
        esp["esp"] = values["esp"][row, points].astype(np.float64)
        esp["grid"] = values["vdw_surface"][row, points].astype(np.float64)
    name = str(values["molecule_id"][row])
    return Structure(
        place=f"{place}, {name}",
        name=name,
        atomic_numbers=values["atomic_numbers"][row, atoms].astype(np.int64),
        positions=values["positions"][row, atoms].astype(np.float64),
        total_charge=0.0 if np.isnan(charge) else charge,
        charge_given=not np.isnan(charge),
        **esp,
    )
