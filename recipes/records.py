"""Molecules of a store, one by one and without padding."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import numpy as np
import xarray as xr

from pipeline import open_store

_WINDOW: Final = 512
Record = dict[str, np.ndarray]


def records(store: Path) -> Iterator[Record]:
    """Yields the molecules of a store, without their padding."""
    molecules = open_store(store).to_dataset()
    for start in range(0, molecules.sizes["molecule"], _WINDOW):
        window = molecules.isel(molecule=slice(start, start + _WINDOW)).load()
        yield from (_record(window, row) for row in range(window.sizes["molecule"]))


def _record(window: xr.Dataset, row: int) -> Record:
    atoms, points = (slice(int(window[name][row])) for name in ("n_atoms", "n_grid"))
    return {
        "id": window["molecule_id"].values[row],
        "Z": window["atomic_numbers"].values[row, atoms],
        "R": window["positions"].values[row, atoms].astype(np.float64),
        "mono": window["monopoles"].values[row, atoms],
        "vdw_surface": window["vdw_surface"].values[row, points],
        "esp": window["esp"].values[row, points].astype(np.float64),
        "total_charge": window["total_charge"].values[row],
    }
