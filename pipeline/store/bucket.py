"""A store in a bucket: changed in a folder of this machine, published by its root document."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import obstore
from typing_extensions import override

from pipeline.store.base import Change, Files, Store
from pipeline.store.bucket_cache import ObjectCache
from pipeline.store.bucket_publication import staged_store
from pipeline.store.bucket_requests import ReadObjects, retried
from pipeline.store.location import STORE_CACHE, ObjectLocation, unanswered, unreachable_explained
from pipeline.store.metadata import METADATA_FILE, GroupNode, missing_store, root_of
from store_schema.problems import StoreError


@dataclass(frozen=True)
class BucketStore(Store):
    """A store of objects with a common prefix; see ``Store``.

    Attributes:
        place: Bucket and prefix.
    """

    place: ObjectLocation

    def __str__(self) -> str:
        return str(self.place)

    @property
    @override
    def address(self) -> str:
        return str(self.place)

    @override
    def root(self) -> GroupNode:
        with self._reaching():
            try:
                answer = retried(obstore.get, self.place.objects(), METADATA_FILE)
            except FileNotFoundError:
                raise missing_store(self) from None
            return root_of(bytes(answer.bytes()), self)

    @override
    def state(self) -> str:
        with self._reaching():
            try:
                return str(retried(obstore.head, self.place.objects(), METADATA_FILE)["e_tag"])
            except FileNotFoundError:
                return ""

    @override
    def size(self) -> None:
        """Returns nothing: it takes a listing of all objects."""

    @override
    def files(self) -> Files | None:
        folder = os.environ.get(STORE_CACHE)
        return ObjectCache(self.place, Path(folder).expanduser()) if folder else None

    @override
    def kvstore(self, path: str) -> dict[str, Any]:
        return self.place.kvstore(path)

    @override
    def unreadable(self, error: Exception) -> StoreError:
        if "retry attempts failed" in str(error):
            return unanswered(self.place, str(error).rpartition("failed: ")[2])
        return super().unreadable(error)

    @override
    @contextmanager
    def scratch(self, name: str) -> Iterator[Path]:
        with TemporaryDirectory(prefix="dcmnet-") as folder:
            yield Path(folder)

    @override
    @contextmanager
    def change(self) -> Iterator[Change]:
        with staged_store(self.place, append=False) as staged:
            yield staged

    @override
    @contextmanager
    def writing(self) -> Iterator[Path]:
        with staged_store(self.place, append=True) as staged:
            yield staged.folder
            staged.publish()

    @override
    def _zarr_store(self) -> ReadObjects:
        return ReadObjects(self.place)

    @override
    def _reaching(self) -> AbstractContextManager[None]:
        return unreachable_explained(self.place)
