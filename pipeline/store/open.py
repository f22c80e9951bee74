"""What zarr and xarray open to read a store, wherever it lies."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pipeline.store.location import location
from store_schema.extras import extra


def zarr_source(store: str | Path) -> Any:
    """Returns the path of a folder, or the objects of an address.

    Raises:
        ConfigError: The extra ``cloud`` is not installed, and it is an address.
        StoreError: The address is none.
    """
    place = location(store)
    if isinstance(place, Path):
        return str(place)
    with extra("cloud", str(place)):
        from pipeline.store.object_requests import ReadObjects
    return ReadObjects(place)
