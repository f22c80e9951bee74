"""What this package wrote and reads again: small files that anybody may have changed since.

Only regular files are opened, so that a pipe in the place of one cannot hang a command; what is
read is bounded, parsed, and validated against a model before anything relies on it.
"""

from __future__ import annotations

import errno
import json
import os
import stat
from pathlib import Path
from typing import Final, TypeVar

from pydantic import BaseModel, ValidationError

from store_schema.problems import DcmError

# Far above what is written: the root of a store has a record per source.
_MOST_BYTES: Final = 2**29
_Model = TypeVar("_Model", bound=BaseModel)


def open_regular(path: str | Path, flags: int = os.O_RDONLY) -> int:
    """Opens a regular file, or a link to one, as `os.open` does.

    Returns:
        A descriptor.

    Raises:
        OSError: It is something else, such as a pipe or a device, or cannot be opened.
    """
    # Without O_NONBLOCK, to open a pipe waits for its writer.
    descriptor = os.open(path, flags | getattr(os, "O_NONBLOCK", 0))
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    return descriptor


def read_text(path: str | Path) -> str:
    """Reads a text in UTF-8.

    Raises:
        FileNotFoundError: There is no such file.
        OSError: It is not a regular file, is too large, or cannot be read.
        ValueError: It is not text in UTF-8.
    """
    with open(path, "rb", opener=open_regular) as file:
        if os.fstat(file.fileno()).st_size > _MOST_BYTES:
            raise OSError(errno.EFBIG, f"larger than {_MOST_BYTES >> 20} MiB", str(path))
        return file.read(_MOST_BYTES).decode("utf-8")


def parse_json(text: str | bytes) -> object:
    """Parses JSON.

    Raises:
        ValueError: It is not JSON, or is nested more deeply than Python can follow.
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def read_json(path: str | Path) -> object:
    """Reads a file of JSON; see ``read_text`` and ``parse_json`` for what is raised."""
    return parse_json(read_text(path))


def validated(
    model: type[_Model],
    fields: object,
    place: object,
    *,
    expected: str,
    error: type[DcmError],
    consequence: str,
    remedy: str,
) -> _Model:
    """Validates what was read.

    Args:
        model: What it has to be.
        fields: What was read.
        place: Where, for messages.
        expected: What it should be, for messages.
        error: The error to raise.
        consequence: What follows, for messages.
        remedy: What to do.

    Raises:
        DcmError: Of the kind given, with the first field that is wrong.
    """
    try:
        return model.model_validate(fields)
    except ValidationError as refused:
        first, *others = refused.errors(include_url=False)
        more = f", and {len(others)} more fields are wrong" if others else ""
        raise error.of(
            ", ".join([str(place), ".".join(map(str, first["loc"]))]).removesuffix(", "),
            wrong=f"this is not {expected}: {first['msg']} "
            f"(found {str(first['input'])[:80]!r}){more}",
            consequence=consequence,
            remedy=remedy,
        ) from refused


def read_validated(
    model: type[_Model],
    path: str | Path,
    *,
    expected: str,
    error: type[DcmError],
    consequence: str,
    remedy: str,
) -> _Model:
    """Reads a file of JSON and validates it; arguments as of ``validated``.

    Raises:
        OSError: It is missing, or cannot be read.
        DcmError: Of the kind given, if it is not JSON or a field is wrong.
    """
    try:
        fields = read_json(path)
    except ValueError as wrong:
        fields = str(wrong)
    return validated(
        model,
        fields,
        path,
        expected=expected,
        error=error,
        consequence=consequence,
        remedy=remedy,
    )
