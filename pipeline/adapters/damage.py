"""Damage of files, whatever the library that reads them says of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from store_schema.problems import DcmError, SourceError


@contextmanager
def damage_reported(place: str, expected: str) -> Iterator[None]:
    """Reports whatever is raised inside as damage.

    Readers of formats raise nearly anything at what they do not expect.

    Args:
        place: How messages name the file, or the part of it.
        expected: What should be there.

    Raises:
        SourceError: Anything was raised.
    """
    try:
        yield
    except DcmError:
        raise
    except Exception as error:
        said = " ".join(str(error).split()) or type(error).__name__
        raise damage(place, expected, said) from error


def damage(place: str, expected: str, received: str) -> SourceError:
    """Returns the error that a file is not what it should be."""
    return SourceError.of(
        place,
        wrong=f"this is not {expected}: {received}",
        consequence="nothing was stored",
        remedy="Make or download the file again, or mend what is wrong there",
    )
