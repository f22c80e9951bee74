"""A store in a folder: published by the rename of its root document."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from typing_extensions import override
from zarr.abc.store import ByteRequest
from zarr.core.buffer import Buffer, BufferPrototype
from zarr.storage import LocalStore as ZarrStore

from pipeline.files import exclusive, staging_folder
from pipeline.store.base import Change, Files, Store
from pipeline.store.metadata import METADATA_FILE, GroupNode, read_root
from store_schema.documents import open_regular
from store_schema.problems import StoreError


@dataclass(frozen=True)
class LocalStore(Store):
    """A store in a folder of this machine; see ``Store``.

    Attributes:
        folder: The folder.
    """

    folder: Path

    def __str__(self) -> str:
        return str(self.folder)

    @property
    @override
    def address(self) -> str:
        return os.path.abspath(self.folder)

    @override
    def root(self) -> GroupNode:
        return read_root(self.folder)

    @override
    def state(self) -> str:
        try:
            return str((self.folder / METADATA_FILE).stat().st_mtime_ns)
        except (FileNotFoundError, NotADirectoryError):
            return ""

    @override
    def size(self) -> int:
        return sum(path.stat().st_size for path in self.folder.rglob("*") if path.is_file())

    @override
    def files(self) -> Files:
        return _Files(self.folder)

    @override
    def kvstore(self, path: str) -> dict[str, Any]:
        place = self.folder / path
        for file in place.rglob("*"):  # TensorStore would wait for the writer of a pipe
            if not (file.is_file() or file.is_dir()) and file.exists():
                raise self.unreadable(OSError(errno.EINVAL, "not a regular file", str(file)))
        return {"driver": "file", "path": f"{place.absolute()}/"}

    @override
    def scratch(self, name: str) -> AbstractContextManager[Path]:
        return staging_folder(self.folder.with_name(f"{self.folder.name}.{name}"))

    @override
    @contextmanager
    def change(self) -> Iterator[Change]:
        with exclusive(self.folder, wait=True):
            yield _InPlace(self.folder)

    @override
    @contextmanager
    def writing(self) -> Iterator[Path]:
        if not self.folder.name:
            raise StoreError.of(
                "store",
                wrong=f"{str(self)!r} is not the path of a folder",
                consequence="nothing was written",
                remedy="Name the store, such as molecules.zarr",
            )
        yield self.folder

    @override
    def _zarr_store(self) -> ZarrStore:
        return _ReadFiles(self.folder, read_only=True)

    @override
    def _reaching(self) -> AbstractContextManager[None]:
        return nullcontext()


class _ReadFiles(ZarrStore):
    """The files of a store, as zarr reads them: none that is a pipe or a device."""

    @override
    async def get(
        self,
        key: str,
        prototype: BufferPrototype | None = None,
        byte_range: ByteRequest | None = None,
    ) -> Buffer | None:
        with suppress(FileNotFoundError, NotADirectoryError, IsADirectoryError):
            os.close(open_regular(self.root / key))
        return await super().get(key, prototype, byte_range)


@dataclass
class _Files:
    """Files of a folder; nothing has to be done before they are opened."""

    folder: Path

    def open(self, path: str, flags: int) -> int:
        return open_regular(path, flags)

    def bring(self, paths: Iterable[Path]) -> None:
        """Does nothing: they are here."""


@dataclass
class _InPlace:
    """A change that readers see as soon as the root is replaced."""

    folder: Path

    def publish(self) -> None:
        """Does nothing: the rename of the root has published it."""
