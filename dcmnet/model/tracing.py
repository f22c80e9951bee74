"""Functions that JAX traces once per machine, not per start.

Most of what a start waits for is not arithmetic: Flax and e3x are imported and the network is
traced. What ``jax.export`` made of a function needs neither.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import jax
import jax.export
from jax.dtypes import canonicalize_dtype
from pydantic import BaseModel

from pipeline.files import replaced
from pipeline.loader import MoleculeBatch

# Whose versions a program depends on, and the folders whose code and constants are in it.
_TRACED_BY: Final = ("jax", "jaxlib", "flax", "e3x", "optax")
_CODE: Final = (
    *("dcmnet/model", "dcmnet/training", "dcmnet/analysis"),
    *("pipeline/chemistry", "store_schema"),
)
# Settings of JAX that change what is traced.
_SETTINGS: Final = (
    *("jax_enable_x64", "jax_default_matmul_precision", "jax_default_prng_impl"),
    *("jax_threefry_partitionable", "jax_numpy_dtype_promotion"),
)
_FOLDER: Final = "programs"  # within the cache of what XLA compiles
_ROOT: Final = Path(__file__).parents[2]
_DIGEST: Final = hashlib.sha256().digest_size

Program = jax.export.Exported

jax.export.register_namedtuple_serialization(MoleculeBatch, serialized_name="dcmnet.MoleculeBatch")


def traced_once(identity: str, trace: Callable[[], Program]) -> Program:
    """Returns a program: what this machine has kept of it, next to what XLA compiles, or traced.

    Args:
        identity: All that it depends on but code, versions and settings of JAX.
        trace: Makes it.
    """
    path = _place(identity)
    program = _read(path)
    if program is None:
        program = trace()
        _keep(program, path)
    return program


def by_shape(function: Callable[..., Any], name: str, *settings: BaseModel) -> Callable[..., Any]:
    """Returns a function that is compiled for each shape of the batch, its last argument.

    Args:
        function: Of trees of arrays, those before the batch of the same shapes always.
        name: What it does.
        settings: All that it depends on.
    """
    identity = " ".join([name, *(each.model_dump_json() for each in settings)])
    programs: dict[Any, Callable[..., Any]] = {}

    def program_of(arguments: tuple[Any, ...]) -> Callable[..., Any]:
        shapes = jax.tree.map(
            lambda a: jax.ShapeDtypeStruct(a.shape, canonicalize_dtype(a.dtype)), arguments
        )

        def trace() -> Program:
            return jax.export.export(jax.jit(function))(*shapes)

        return jax.jit(traced_once(f"{identity} {shapes}", trace).call)

    def run(*arguments: Any) -> Any:
        key = tuple((array.shape, array.dtype) for array in arguments[-1])
        if key not in programs:
            programs[key] = program_of(arguments)
        return programs[key](*arguments)

    return run


def _read(path: Path | None) -> Program | None:
    """What a file holds; None where there is none, or a damaged one."""
    if path is None or not path.is_file():
        return None
    content = path.read_bytes()
    digest, program = content[:_DIGEST], content[_DIGEST:]
    is_whole = hashlib.sha256(program).digest() == digest
    return jax.export.deserialize(bytearray(program)) if is_whole else None


def _keep(program: Program, path: Path | None) -> None:
    if path is None:
        return
    content = bytes(program.serialize())
    # Without it each start traces; ``set_up_compilation`` reports a cache that cannot be written.
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with replaced(path) as partial:
            partial.write_bytes(hashlib.sha256(content).digest() + content)


def _place(identity: str) -> Path | None:
    """Where a program is kept: a name that says all it depends on; None without a folder."""
    cache = jax.config.values["jax_compilation_cache_dir"]
    if cache is None or "://" in cache:  # XLA can keep its own in a bucket
        return None
    digest = hashlib.sha256(identity.encode())
    for package in _TRACED_BY:
        digest.update(version(package).encode())
    for folder in _CODE:
        for source in sorted((_ROOT / folder).rglob("*.py")):
            digest.update(source.read_bytes())
    settings = [str(getattr(jax.config, name)) for name in _SETTINGS]
    digest.update(" ".join([jax.default_backend(), *settings]).encode())
    return Path(cache) / _FOLDER / f"{digest.hexdigest()[:32]}.stablehlo"
