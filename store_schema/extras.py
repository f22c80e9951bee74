"""Packages that only some commands need: an error says what to install where one is missing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from store_schema.problems import ConfigError


@contextmanager
def extra(name: str, purpose: str) -> Iterator[None]:
    """Says which extra to install where an import inside finds nothing.

    Args:
        name: Name of the extra in ``pyproject.toml``.
        purpose: What asked for it, such as ``dcmnet sweep``.

    Raises:
        ConfigError: A package of the extra is missing.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        raise ConfigError.of(
            purpose,
            wrong=f"there is no module {error.name!r}, which comes with the extra {name!r}",
            consequence="nothing was started",
            remedy=f"pip install 'dcm-store[{name}]', or '.[{name}]' where the sources are",
        ) from error
