"""Programs that machines keep: how tests forget them, and see that none is traced again."""

import json
import os
import subprocess
import sys

import jax

from dcmnet.model import program

_STARTED = """
import json, sys
{}
print(json.dumps([sorted({{"e3x", "flax", "sympy"}} & set(sys.modules)), found]))
"""


def second_start(code, *arguments):
    """Runs code in a process that has the programs of this one.

    Args:
        code: Sets `found`, which JSON can write.
        *arguments: What it finds in `sys.argv[1:]`.

    Returns:
        Which packages it imported that only tracing needs, and what it found.
    """
    cache = {"JAX_COMPILATION_CACHE_DIR": jax.config.values["jax_compilation_cache_dir"]}
    command = [sys.executable, "-c", _STARTED.format(code), *map(str, arguments)]
    ran = subprocess.run(
        command, capture_output=True, check=True, text=True, env=os.environ | cache
    )
    return json.loads(ran.stdout.splitlines()[-1])


def forgotten():
    """Leaves what is on disk."""
    program._program.cache_clear()


def never(*_, **__):
    """Stands where a function would be traced."""
    raise AssertionError("a function was traced though its program was kept")
