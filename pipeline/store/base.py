"""A store of molecules, wherever it lies: the one object that knows how to reach its bytes."""

from __future__ import annotations

import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Final, Protocol, TypeAlias

import xarray as xr
import zarr
from zarr.errors import GroupNotFoundError

from pipeline.store.location import location
from pipeline.store.metadata import GroupNode, Node, missing_store, nodes_of
from store_schema import StoreSchema
from store_schema.extras import extra
from store_schema.problems import DcmError, StoreError

# What zarr, its codecs and TensorStore raise for damage.
UNREADABLE: Final = (ValueError, LookupError, RuntimeError, OSError, zlib.error)


class Change(Protocol):
    """A change of a store that no other writer interferes with.

    Attributes:
        folder: Where the store's metadata is, and where it is changed.
    """

    folder: Path

    def publish(self) -> None:
        """Lets readers see the folder as it is now."""


class Files(Protocol):
    """Files of a store that this machine can open.

    Attributes:
        folder: Where they are, or would be if the store were a folder.
    """

    folder: Path

    def open(self, path: str, flags: int) -> int:
        """Opens a file as `os.open` does."""

    def bring(self, paths: Iterable[Path]) -> None:
        """Prepares files that will be opened."""


class Store(ABC):
    """A store in a folder or in a bucket, opened with ``Store.at``.

    Reading needs no lock: a reader sees the store as it was last published. Writers go through
    ``change`` (results) or ``writing`` (molecules), and keep each other out.
    """

    @staticmethod
    def at(place: StoreLike) -> Store:
        """Returns the store at a path or a URL; whether there is one shows when it is read.

        Args:
            place: Path, or URL that begins with ``file://``, ``s3://`` or ``gs://``.

        Raises:
            ConfigError: It is in a bucket, and the extra ``cloud`` is not installed.
            StoreError: It is neither a path nor such a URL, or holds more than an address.
        """
        if isinstance(place, Store):
            return place
        where = location(place)
        if isinstance(where, Path):
            from pipeline.store.local import LocalStore

            return LocalStore(where)
        with extra("cloud", str(where)):
            from pipeline.store.bucket import BucketStore
        return BucketStore(where)

    @property
    @abstractmethod
    def address(self) -> str:
        """Absolute path or URL, by which the store is found from any folder."""

    def tree(self) -> xr.DataTree:
        """Opens the store lazily: molecules at the root, groups such as ``results`` below.

        Raises:
            StoreError: There is no store, or it cannot be reached.
        """
        self.root()
        with self._opening():
            return xr.open_datatree(self._zarr_store(), engine="zarr", zarr_format=3)

    def group(self) -> zarr.Group:
        """Opens the root group for reading.

        Raises:
            StoreError: There is no store, it cannot be reached, or its metadata is no JSON.
        """
        self.root()
        with self._opening():
            return zarr.open_group(self._zarr_store(), mode="r", zarr_format=3)

    def schema(self) -> StoreSchema:
        """Reads what the store holds and how it came about.

        Raises:
            StoreError: There is no store, or its schema is not valid.
        """
        return StoreSchema.from_attributes(self.root().attributes, str(self))

    @abstractmethod
    def root(self) -> GroupNode:
        """Reads the metadata of the root, which hold the schema and those of all nodes.

        Raises:
            StoreError: There is none, it cannot be reached, or is not valid.
        """

    def nodes(self) -> dict[str, Node]:
        """Reads the metadata of every published node, by path.

        Raises:
            StoreError: It is not a store, or cannot be reached.
        """
        return nodes_of(self.root(), self)

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Says what it means that values cannot be read where xarray or zarr reads them.

        Raises:
            StoreError: A chunk is damaged, or cannot be read.
        """
        try:
            with self._reaching():
                yield
        except UNREADABLE as error:
            raise self.unreadable(error) from error

    @contextmanager
    def _opening(self) -> Iterator[None]:
        try:
            with self._reaching():
                yield
        except DcmError:
            raise
        except (FileNotFoundError, GroupNotFoundError) as error:
            raise missing_store(self) from error
        except Exception as error:  # zarr and xarray raise many kinds for metadata they cannot use
            raise StoreError.of(
                str(self),
                wrong=f"zarr and xarray cannot open its metadata: {type(error).__name__}: {error}",
                consequence="the store cannot be read",
                remedy="Restore its zarr.json files, or ingest the sources again",
            ) from error

    @abstractmethod
    def state(self) -> str:
        """Returns what changes whenever the store does; nothing where there is none.

        Raises:
            StoreError: It cannot be reached.
        """

    @abstractmethod
    def size(self) -> int | None:
        """Returns the bytes that it takes; None where they are not counted."""

    @abstractmethod
    def files(self) -> Files | None:
        """Returns what opens its files on this machine; None where TensorStore alone reads it."""

    @abstractmethod
    def kvstore(self, path: str) -> dict[str, Any]:
        """Returns TensorStore's specification of what lies below a path of the store."""

    def unreadable(self, error: Exception) -> StoreError:
        """Returns the error that says what it means that a chunk cannot be read."""
        return _unreadable(str(self), error)

    @abstractmethod
    def scratch(self, name: str) -> AbstractContextManager[Path]:
        """Yields an empty folder from which files can be renamed into a change.

        Raises:
            StoreError: Another writer of this machine is at work on the same.
        """

    @abstractmethod
    def change(self) -> AbstractContextManager[Change]:
        """Waits for other writers, and keeps them out; for results, not molecules.

        Raises:
            StoreError: It is not a store, or cannot be reached.
        """

    @abstractmethod
    def writing(self) -> AbstractContextManager[Path]:
        """Yields the folder that molecules are written to; what it holds at the end is published.

        Raises:
            StoreError: No store can be there, or another writer holds it.
        """

    @abstractmethod
    def _zarr_store(self) -> Any:
        """What zarr and xarray open."""

    @abstractmethod
    def _reaching(self) -> AbstractContextManager[None]:
        """Says in words what stands between here and the store."""


StoreLike: TypeAlias = str | Path | Store
"""A store, or the path or URL of one."""


@contextmanager
def readable(values: xr.Dataset) -> Iterator[None]:
    """Says what it means that values of an opened store cannot be read; see ``Store.reading``.

    Raises:
        StoreError: A chunk is damaged, or cannot be read.
    """
    try:
        yield
    except UNREADABLE as error:
        raise _unreadable(str(values.encoding.get("source", "the store")), error) from error


def _unreadable(place: str, error: Exception) -> StoreError:
    return StoreError.of(
        place,
        wrong=f"arrays cannot be read: {error}",
        consequence="molecules are missing",
        remedy="Check it with 'dcmnet validate STORE', or ingest the sources again",
    )


def open_store(store: StoreLike) -> xr.DataTree:
    """Opens a store lazily: the molecules at the root, groups such as ``results`` below.

    Raises:
        StoreError: There is no store.
    """
    return Store.at(store).tree()


def read_schema(store: StoreLike) -> StoreSchema:
    """Reads what a store holds and how it came about.

    Raises:
        StoreError: There is no store, or its schema is not valid.
    """
    return Store.at(store).schema()
