"""Objects of a store, kept in a folder of this machine from epoch to epoch and run to run."""

from __future__ import annotations

import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

import obstore

from pipeline.files import replaced
from pipeline.store.bucket_requests import Objects, retried
from pipeline.store.location import STORE_CACHE, ObjectLocation, unreachable_explained
from store_schema.problems import StoreError

if TYPE_CHECKING:
    from obstore import ObjectMeta

_AT_ONCE: Final = 4  # objects that are brought side by side, each in pieces


class ObjectCache:
    """Whole objects of a store, each brought when it is first opened.

    A version of an object is a file by the name of its entity tag, in a folder by the name of
    the object. Which one is current is asked once for each object; so what is read is never
    older than the cache was opened. Processes may share the folder, and whoever needs the
    room may empty it at any time.

    Attributes:
        folder: Where the objects of this store are.
    """

    def __init__(self, place: ObjectLocation, root: Path) -> None:
        self._place, self._root = place, root
        self.folder = root / f"{place.name}-{sha256(str(place).encode()).hexdigest()[:16]}"
        self._current: dict[str, Path | None] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        return ObjectCache, (self._place, self._root)

    def open(self, path: str, flags: int) -> int:
        """Opens an object, as the opener of `open`.

        Args:
            path: Where it would be if the store were this folder.
            flags: Those of `os.open`.

        Returns:
            A descriptor.

        Raises:
            FileNotFoundError: There is no such object.
            StoreError: It cannot be brought or kept.
        """
        key = self._key(path)
        for _ in range(2):
            kept = self._current[key] if key in self._current else self._bring(key)
            if kept is None:
                raise FileNotFoundError(path)
            try:
                return os.open(kept, flags)
            except FileNotFoundError:  # somebody has emptied the cache; no object is gone
                del self._current[key]
        raise self._unusable(key, "it vanished twice")

    def bring(self, paths: Iterable[Path]) -> None:
        """Brings objects side by side that will be opened.

        Raises:
            StoreError: They cannot be brought or kept.
        """
        keys = {self._key(path) for path in paths} - self._current.keys()
        with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="dcm-cache") as threads:
            list(threads.map(self._bring, sorted(keys)))

    def _key(self, path: str | Path) -> str:
        return Path(path).relative_to(self.folder).as_posix()

    @cached_property
    def _objects(self) -> Objects:
        return self._place.objects()

    def _bring(self, key: str) -> Path | None:
        """Brings what is not here yet; returns the file, None if there is no object."""
        with unreachable_explained(self._place):
            try:
                self._current[key] = retried(self._fetch, key)
            except OSError as error:
                raise self._unusable(key, str(error)) from error
        return self._current[key]

    def _unusable(self, key: str, received: str) -> StoreError:
        return StoreError.of(
            str(self.folder),
            wrong=f"this folder, which keeps what is read of the store, cannot be used: {received}",
            consequence=f"{key} was not read",
            remedy=f"Make room, or set {STORE_CACHE} to another folder or to nothing",
        )

    def _fetch(self, key: str) -> Path | None:
        folder = self.folder / key
        try:
            about = obstore.head(self._objects, key)
        except FileNotFoundError:
            return None
        file = folder / _version(about)
        if not file.exists() or file.stat().st_size != about["size"]:
            answer = obstore.get(self._objects, key)
            file = folder / _version(answer.meta)  # it may have been replaced meanwhile
            folder.mkdir(parents=True, exist_ok=True)
            with replaced(file) as partial, partial.open("wb") as target:
                for piece in answer.stream():
                    target.write(piece)
            for older in set(folder.glob("[!.]*")) - {file}:
                older.unlink(missing_ok=True)
        return file


def _version(about: ObjectMeta) -> str:
    return quote(str(about["e_tag"] or about["last_modified"]), safe="")
