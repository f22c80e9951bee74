"""Compiled functions, kept between processes: once per machine, not once per start."""

from __future__ import annotations

import functools
import os
import sys
from contextlib import suppress
from pathlib import Path

import jax


def use_compilation_cache() -> None:
    """Keeps what JAX compiles in the user's cache directory, unless the user chose another.

    To be called before anything is compiled; JAX looks at it once.
    """
    if jax.config.values["jax_compilation_cache_dir"] is None:
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "dcmnet" / "xla"
        with suppress(OSError):
            cache.mkdir(parents=True, exist_ok=True)
        if not os.access(cache, os.W_OK):
            _note(cache)
            return
        jax.config.update("jax_compilation_cache_dir", str(cache))
        # Small functions count, too: a model is loaded with about a hundred of them.
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)


@functools.cache  # once per process
def _note(cache: Path) -> None:
    print(f"Note: {cache} cannot be written; each start compiles anew.", file=sys.stderr)
