"""Where results are added to a store: in its folder, or in one that is uploaded and published."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Protocol

from pipeline.files import exclusive, staging_folder
from pipeline.store.location import ObjectLocation, location, reached
from pipeline.store.metadata import (
    METADATA_FILE,
    Document,
    local_path,
    missing_store,
    nodes_of,
    read_nodes,
)
from store_schema.extras import extra


class Change(Protocol):
    """A change of a store that no other writer interferes with.

    Attributes:
        folder: Where the store's metadata is, and where it is changed.
    """

    folder: Path

    def publish(self) -> None:
        """Lets readers see the folder as it is now."""


class _InPlace:
    """A change of a local store, which readers see as soon as its root is replaced."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def publish(self) -> None:
        """Does nothing: the rename of the root has published it."""


def store_place(store: str | Path) -> Path | ObjectLocation:
    """Returns where a store that is written to lies.

    Raises:
        ConfigError: It is a URL, and the extra ``cloud`` is not installed.
        StoreError: It names no store.
    """
    place = location(store)
    if isinstance(place, Path):
        return local_path(store)
    with extra("cloud", str(place)):
        import pipeline.store.object_publication  # noqa: F401
    return place


def published_nodes(place: Path | ObjectLocation) -> dict[str, Document]:
    """Reads the metadata of every published node of a store, by path.

    Raises:
        StoreError: It is not a store.
    """
    if isinstance(place, Path):
        return read_nodes(place)
    import obstore

    from pipeline.store.object_requests import again

    with reached(place):
        try:
            answer = again(obstore.get, place.objects(), METADATA_FILE)
        except FileNotFoundError:
            raise missing_store(place) from None
        return nodes_of(json.loads(bytes(answer.bytes())), place)


def published_state(store: str | Path) -> str:
    """Returns what changes whenever a store does; nothing where there is none.

    Raises:
        StoreError: The objects cannot be reached.
    """
    place = location(store)
    try:
        if isinstance(place, Path):
            return str((place / METADATA_FILE).stat().st_mtime_ns)
        objects = place.objects()
        import obstore

        from pipeline.store.object_requests import again

        with reached(place):
            return str(again(obstore.head, objects, METADATA_FILE)["e_tag"])
    except (FileNotFoundError, NotADirectoryError):
        return ""


@contextmanager
def scratch_folder(place: Path | ObjectLocation, name: str) -> Iterator[Path]:
    """Gives an empty folder from which files can be renamed into a change of the store.

    Raises:
        StoreError: Another writer of this machine is at work on the same.
    """
    if isinstance(place, Path):
        with staging_folder(place.with_name(f"{place.name}.{name}")) as folder:
            yield folder
    else:
        with TemporaryDirectory(prefix="dcmnet-") as scratch:
            yield Path(scratch)


@contextmanager
def change(place: Path | ObjectLocation) -> Iterator[Change]:
    """Waits for other writers of a store, and keeps them out.

    Raises:
        StoreError: The objects cannot be reached.
    """
    if isinstance(place, Path):
        with exclusive(place, wait=True):
            yield _InPlace(place)
    else:
        from pipeline.store.object_publication import staged_store

        with staged_store(place, append=False) as staged:
            yield staged
