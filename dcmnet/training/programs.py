"""Functions of a batch as programs: one for each shape, traced once per machine."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.export
from pydantic import BaseModel

from dcmnet.model.tracing import Program, traced_once


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
        shapes = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), arguments)

        def trace() -> Program:
            return jax.export.export(jax.jit(function))(*shapes)

        return jax.jit(traced_once(f"{identity} {shapes}", trace).call)

    def run(*arguments: Any) -> Any:
        key = tuple((array.shape, array.dtype) for array in arguments[-1])
        if key not in programs:
            programs[key] = program_of(arguments)
        return programs[key](*arguments)

    return run
