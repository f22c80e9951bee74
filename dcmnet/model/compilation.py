"""How functions are compiled: with loops as they are, and once per machine, not per start."""

from __future__ import annotations

import functools
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import Final

import jax

# An option of XLA's backend for processors, which only a flag reaches. A training step with its
# loops unrolled takes a third longer to compile, and no less time to run.
_EXTRA_OPTIONS: Final = "--xla_backend_extra_options"
_ROLLED: Final = f"{_EXTRA_OPTIONS}=xla_cpu_disable_loop_unrolling"

# For what runs once, where only compiling takes time, which this halves. On a processor results
# differ from those of other options by rounding.
ONCE: Final = {"xla_backend_optimization_level": 0}


def set_up_compilation() -> None:
    """Keeps what JAX compiles in the user's cache directory, and has XLA leave loops as they are.

    A directory or options that the user chose stay. To be called before anything is compiled;
    JAX and XLA look once.
    """
    flags = os.environ.get("XLA_FLAGS", "")
    if _EXTRA_OPTIONS not in flags:
        os.environ["XLA_FLAGS"] = f"{flags} {_ROLLED}".strip()
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
