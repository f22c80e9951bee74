"""The table of all parameters that ``--verbose`` shows."""

from __future__ import annotations

import importlib.util

import jax
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from dcmnet.model import Parameters


def print_parameters(params: Parameters, console: Console) -> None:
    """Prints name, shape and number of all parameters, and what their values are like.

    The values are summed up by lovely_jax, of the extra ``verbose``; without it the
    column is left out.
    """
    table = Table(box=SIMPLE_HEAD, pad_edge=False, title="parameters", title_justify="left")
    table.add_column("name", overflow="fold")
    table.add_column("shape", no_wrap=True)
    table.add_column("number", justify="right", no_wrap=True)
    lovely = importlib.util.find_spec("lovely_jax") is not None
    if lovely:
        table.add_column("values", overflow="fold")
    total = 0
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        name = jax.tree_util.keystr(path, simple=True, separator="/").removeprefix("params/")
        total += leaf.size
        shape = "×".join(map(str, leaf.shape))
        row = [name, shape, f"{leaf.size:,}", *([_values(leaf)] if lovely else [])]
        table.add_row(*map(escape, row))
    table.add_section()
    table.add_row("all", "", f"{total:,}")
    console.print(table)
    if not lovely:
        console.print("For their values: pip install dcm-store\\\\[verbose]", style="dim")


def _values(leaf: jax.Array) -> str:
    from lovely_jax import lovely

    return str(lovely(leaf))
