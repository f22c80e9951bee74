"""The command line: its commands, in the order that ``--help`` lists them."""

from __future__ import annotations

from typing import Annotated

import typer

from dcmnet.commands.analysis import analyze, compare, demo, report
from dcmnet.commands.data import bench, ingest, inspect, validate
from dcmnet.commands.models import drift, export, models, predict
from dcmnet.commands.reference import reference
from dcmnet.commands.training import resume, sweep, train
from dcmnet.console.refusal import refuse_politely

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
    refuse_politely(app)


if __name__ == "__main__":
    main()
