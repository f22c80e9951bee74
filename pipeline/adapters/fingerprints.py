"""What distinguishes source files: name, size and digest, found during other work."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from store_schema import SourceFile

Files = tuple[SourceFile, ...]


class Fingerprints:
    """Descriptions of files, each ready when it is asked for."""

    def __init__(self, pending: Sequence[tuple[tuple[Path, ...], Future[Files]]]) -> None:
        """Takes what is under way, by the files of a source."""
        self._pending = dict(pending)

    def of(self, files: tuple[Path, ...]) -> Files:
        """Returns what describes the files of a source; waits for it where need be.

        Raises:
            OSError: A file cannot be read any more.
        """
        return self._pending[files].result()


@contextmanager
def fingerprints(sources: Iterable[tuple[Path, ...]]) -> Iterator[Fingerprints]:
    """Reads the files of sources, one after the other, in a thread of its own.

    A digest takes half a second per gigabyte, and nothing but a comparison with a store that
    exists has to wait for it.
    """
    pool = ThreadPoolExecutor(1)
    try:
        yield Fingerprints([(files, pool.submit(_describe, files)) for files in sources])
    finally:
        pool.shutdown(cancel_futures=True)


def _describe(files: tuple[Path, ...]) -> Files:
    return tuple(
        SourceFile(name=path.name, size=path.stat().st_size, sha256=_digest(path)) for path in files
    )


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
