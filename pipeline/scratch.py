"""Scratch files that several processes may write at once: the same bytes, whole or absent."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4


@contextmanager
def replaced(place: Path) -> Iterator[Path]:
    """Gives a place of one's own to write to, which then takes the place of a file.

    Who was taken for dead and writes the same file once more does no harm. What a killed
    process left beside it is for the owner of the folder to remove.
    """
    partial = place.with_name(f".{place.name}.{uuid4().hex}")
    try:
        yield partial
        os.replace(partial, place)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
