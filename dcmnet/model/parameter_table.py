"""The table of all parameters that ``--verbose`` shows."""

from __future__ import annotations

import importlib.util

import jax
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from dcmnet.model import Parameters


def print_parameters(params: Parameters, console: Console) -> None:
    """Prints name, shape and number of all parameters, and what their values are like.

    The values are summed up by lovely_jax, of the extra ``verbose``; without it they
    are left out.
    """
    table = Table(box=SIMPLE_HEAD, pad_edge=False, title="parameters", title_justify="left")
    table.add_column("name", overflow="fold")
    table.add_column("shape", no_wrap=True)
    table.add_column("number", justify="right", no_wrap=True)
    lovely = importlib.util.find_spec("lovely_jax") is not None
    total = 0
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        name = jax.tree_util.keystr(path, simple=True, separator="/").removeprefix("params/")
        total += leaf.size
        first = Text(name).append_text(_values(leaf)) if lovely else Text(name)
        table.add_row(first, "×".join(map(str, leaf.shape)), f"{leaf.size:,}")
    table.add_section()
    table.add_row("all", "", f"{total:,}")
    console.print(table)
    if not lovely:
        console.print(escape("Their values are shown after: pip install 'dcm-store[verbose]'"))


def _values(leaf: jax.Array) -> Text:
    from lovely_jax import lovely

    summed_up = Text.from_ansi(f"\n  {lovely(leaf)}")
    summed_up.stylize("dim")
    return summed_up
