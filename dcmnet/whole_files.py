"""Files that appear whole, or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.zarr_metadata import staging_folder


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Gives a place to write to, which takes the place of a file when all is written.

    There is a folder around it for scratch files. One that a killed program left is used
    again.

    Raises:
        StoreError: Another program is writing the same file, or there is no place for it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with staging_folder(path) as staging:
        partial = staging / path.name
        yield partial
        os.replace(partial, path)


def write_text(path: Path, text: str) -> None:
    """Replaces a file by a text; who reads it meanwhile sees the old one or the new one."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        partial.write_text(text, encoding="utf-8")
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
