"""Files that appear whole or not at all, hidden folders to prepare them in, and a writer's lock."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

from store_schema.problems import StoreError

# Within these, in seconds, threads of a stopped writer have ended what they write.
_ATTEMPTS, _PAUSE = 50, 0.1


@contextmanager
def replaced(path: Path) -> Iterator[Path]:
    """Yields a temporary path to write to, which then takes the place of a file.

    Readers see the old file or the new one. Several processes may write the same file: each
    replaces it whole. What a killed process left behind is for the owner of the folder to
    remove.

    Raises:
        StoreError: There is no place for it.
    """
    with usable_place(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{uuid4().hex}.{path.name}")  # the suffix says the format
    try:
        yield partial
        os.replace(partial, path)
    except OSError as error:
        if error.filename in (None, str(partial), partial):  # a full disk names no file
            error.filename = str(path)
        raise
    finally:
        partial.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Replaces a file by a text in UTF-8; see ``replaced``."""
    with replaced(path) as partial:
        partial.write_text(text, encoding="utf-8")


def check_utf8(path: str | Path) -> None:
    """Refuses a path that libraries and records cannot hold, since it is not UTF-8.

    Raises:
        StoreError: It has such bytes.
    """
    try:
        str(path).encode("utf-8")
    except UnicodeEncodeError:
        raise StoreError.of(
            str(path).encode("utf-8", "backslashreplace").decode(),
            wrong="the path is not in UTF-8",
            consequence="it was not opened",
            remedy="Rename it, or the folder that is named so",
        ) from None


@contextmanager
def exclusive(folder: Path, *, wait: bool) -> Iterator[None]:
    """Holds the writer's lock of a folder.

    The lock is on the folder itself, so no file of it is left behind and a killed
    writer frees it.

    Raises:
        StoreError: Another writer holds it, and ``wait`` is false.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            raise StoreError.of(
                str(folder),
                wrong="another process is writing here",
                consequence="nothing was written",
                remedy="Try again when it has ended",
            ) from None
        yield
    finally:
        os.close(descriptor)


@contextmanager
def usable_place(place: object) -> Iterator[None]:
    """Says in words what the file system has against the place of a store.

    Raises:
        StoreError: It cannot be reached or made there.
    """
    try:
        yield
    except OSError as error:
        raise StoreError.of(
            str(place),
            wrong=(
                "nothing can be written here: "
                + (error.strerror or str(error)).lower()
                + (f" at {error.filename}" if error.filename not in (None, str(place)) else "")
            ),
            consequence="nothing was written",
            remedy="Choose another path, or make this one usable",
        ) from error


@contextmanager
def staging_folder(target: Path) -> Iterator[Path]:
    """Yields an empty hidden folder next to ``target``; nothing of it stays behind on an error.

    A folder that a killed writer left is emptied and used again.

    Raises:
        StoreError: Another writer is at work on the same target.
    """
    staging = target.with_name(f".{target.name}.partial")
    with usable_place(target):
        staging.mkdir(parents=True, exist_ok=True)
    with exclusive(staging, wait=False):
        empty(staging)
        try:
            yield staging
        finally:
            _remove(staging)


def _remove(folder: Path) -> None:
    """Removes a folder, if it is there, in which threads of a stopped writer may be at work."""
    for _ in range(_ATTEMPTS):
        try:
            shutil.rmtree(folder)
        except FileNotFoundError:  # renamed into place, or a file that a thread renamed
            if not folder.exists():
                return
        except OSError as error:
            if error.errno != errno.ENOTEMPTY:
                raise
            time.sleep(_PAUSE)
        else:
            return
    shutil.rmtree(folder)


def empty(folder: Path) -> None:
    """Removes everything inside a folder."""
    for entry in folder.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()
