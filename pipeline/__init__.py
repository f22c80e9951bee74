"""From NPZ files to a Zarr store, and from the store to batches."""

from __future__ import annotations

from importlib import import_module
from typing import Any

_HOMES = {
    "IngestReport": "pipeline.ingest",
    "ingest": "pipeline.ingest",
    "MoleculeBatch": "pipeline.loader",
    "make_loader": "pipeline.loader",
    "open_store": "pipeline.zarr_store",
    "read_schema": "pipeline.zarr_store",
}

# Resolved on first use, so that reading a store does not import Grain.
__all__ = [
    "IngestReport",
    "MoleculeBatch",
    "ingest",
    "make_loader",
    "open_store",
    "read_schema",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
