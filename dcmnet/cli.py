"""The command line: its commands, in the order that ``--help`` lists them."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Annotated, Final, TextIO

import typer

from dcmnet.commands.analysis import analyze, compare, demo, report
from dcmnet.commands.data import bench, ingest, inspect, validate
from dcmnet.commands.models import drift, export, models, predict
from dcmnet.commands.reference import reference
from dcmnet.commands.training import resume, sweep, train
from dcmnet.console.refusal import refuse_politely

_PYTHONS_WAY: Final[Callable[..., None]] = warnings.showwarning

app = typer.Typer(
    name="dcmnet",
    help="Reference data in, distributed charge models out.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)


@app.callback()
def common(
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks of errors.")] = False,
) -> None:
    """Reads the options before the command; ``main`` looks at ``--debug`` itself."""


for command in (
    *(reference, ingest, inspect, validate),
    *(train, resume, sweep),
    *(analyze, compare, predict, models, drift, export),
    *(report, bench, demo),
):
    app.command()(command)


def main() -> None:
    """Runs the command line."""
    warnings.showwarning = _show_warning
    refuse_politely(app)


def _show_warning(  # noqa: PLR0917 - Python gives these by place
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Shows what the package warns of as a sentence, and other warnings as Python does."""
    if category is UserWarning:
        typer.echo(f"Warning: {message}", err=True)
    else:
        _PYTHONS_WAY(message, category, filename, lineno, file, line)


if __name__ == "__main__":
    main()
