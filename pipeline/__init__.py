"""From files of any convention to a Zarr store, and from the store to batches."""

from __future__ import annotations

from typing import TYPE_CHECKING

import lazy_loader

if TYPE_CHECKING:
    from pipeline.ingestion.run import IngestReport, ingest
    from pipeline.loader import MoleculeBatch, make_loader
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

# On first use: a prediction waits for no ingest, and an ingest not for Grain.
__getattr__, __dir__, _ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "ingestion.run": ["IngestReport", "ingest"],
        "loader": ["MoleculeBatch", "make_loader"],
        "store.base": ["Store", "open_store", "read_schema"],
    },
)
