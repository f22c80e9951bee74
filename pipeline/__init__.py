"""From NPZ files to a Zarr store, and from the store to batches."""

from __future__ import annotations

from typing import Any

from pipeline.ingestion.run import IngestReport, ingest
from pipeline.store.base import Store, open_store, read_schema

__all__ = [
    "IngestReport",
    "MoleculeBatch",
    "Store",
    "ingest",
    "make_loader",
    "open_store",
    "read_schema",
]


def __getattr__(name: str) -> Any:
    """Imports the loader on first use, so that an ingest does not wait for Grain."""
    if name in ("MoleculeBatch", "make_loader"):
        from pipeline import loader

        return getattr(loader, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
