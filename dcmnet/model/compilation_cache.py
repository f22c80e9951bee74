"""Compiled functions, kept between processes: the network compiles once a machine, not a start."""

from __future__ import annotations

import os
from pathlib import Path

import jax


def use_compilation_cache() -> None:
    """Keeps what JAX compiles in the user's cache directory, unless the user chose another.

    To be called before anything is compiled; JAX looks at it once.
    """
    if jax.config.values["jax_compilation_cache_dir"] is None:
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "dcmnet" / "xla"
        jax.config.update("jax_compilation_cache_dir", str(cache))
        # Small functions count, too: a model is loaded with about a hundred of them.
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
