"""Compiles loops over atoms and points that numpy needs many passes over memory for."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, TypeVar, cast

from numba import njit

_Function = TypeVar("_Function", bound=Callable[..., Any])


def compiled(function: _Function) -> _Function:
    """Compiles a function of arrays and numbers when it is first called.

    It runs outside the interpreter lock, so that threads run meanwhile, and rounds as
    numpy does: no sum is reordered, no product fused with a sum. What was compiled is
    kept on disk, next to the module or in the user's cache, for the next start.
    """
    # Tests wrap what is annotated in checks, which do not compile.
    plain = inspect.unwrap(function)
    try:
        return cast(_Function, njit(nogil=True, cache=True)(plain))
    except RuntimeError:  # no folder to keep it in, as in a container that cannot be written to
        return cast(_Function, njit(nogil=True)(plain))
