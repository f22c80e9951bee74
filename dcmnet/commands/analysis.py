"""Commands that measure: ``analyze``, ``compare``, ``report``, ``demo``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from dcmnet.console.options import Checkpoint, ExperimentPath, Overwrite, Split


def analyze(
    experiments: Annotated[
        list[str],
        typer.Argument(
            metavar="EXPERIMENT|dcm2...",
            help="Directory of an experiment, or a model in the box; several are an ensemble.",
        ),
    ],
    store: Annotated[
        str | None, typer.Option(help="Store to analyse; the one trained on by default.")
    ] = None,
    split: Split = "test",
    checkpoint: Checkpoint = "best",
    name: Annotated[
        str | None, typer.Option(help="Name of the results; the experiment's by default.")
    ] = None,
    overwrite: Overwrite = False,
    formats: Annotated[
        str,
        typer.Option("--export", metavar="FORMATS", help="Of json,csv,parquet,pkl,netcdf."),
    ] = "json,csv",
    ladder: Annotated[
        int, typer.Option(min=0, help="Molecules to fit multipoles to, as a reference.")
    ] = 200,
    figures: Annotated[
        bool, typer.Option("--figures/--no-figures", help="Draw figures, which takes seconds.")
    ] = True,
) -> None:
    """Write predictions and errors of a checkpoint back into the store."""
    from dcmnet.analysis.export import parse_formats
    from dcmnet.analysis.run import analyze as run
    from dcmnet.analysis.tables import print_analysis

    analysis = run(
        experiments,
        store=store,
        split=split,
        checkpoint=checkpoint,
        name=name,
        overwrite=overwrite,
        formats=parse_formats(formats),
        ladder=ladder,
        figures=figures,
        progress=True,
    )
    print_analysis(analysis, Console())
    _say_what_boxes_know(experiments)


def compare(
    experiments: Annotated[
        list[str],
        typer.Argument(
            metavar="EXPERIMENT...", help="Directories; DIRECTORY@epoch_50 names a checkpoint."
        ),
    ],
    store: Annotated[
        str | None, typer.Option(help="Store to compare on; the one trained on by default.")
    ] = None,
    split: Split = "test",
    out: Annotated[Path, typer.Option(metavar="FILE.png", help="Where the figure goes.")] = Path(
        "comparison.png"
    ),
) -> None:
    """Compare experiments and checkpoints, molecule by molecule."""
    from dcmnet.analysis.comparison import compare as run
    from dcmnet.analysis.figures.comparison import check_figure, save_comparison
    from dcmnet.analysis.tables import print_comparison

    check_figure(out)
    comparison = run(experiments, split=split, store=store)
    print_comparison(comparison, Console())
    _say_what_boxes_know(experiments)
    for path in save_comparison(comparison, out):
        typer.echo(path)


def report(
    experiment: ExperimentPath,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The page; analysis/report.html by default.")
    ] = None,
    store: Annotated[
        str | None, typer.Option(help="Store with the results; the one trained on by default.")
    ] = None,
    results: Annotated[
        str | None, typer.Option(metavar="NAME", help="Results group; the experiment's by default.")
    ] = None,
    watch: Annotated[
        bool,
        typer.Option("--watch", help="Update the page after each epoch of a running training."),
    ] = False,
    every: Annotated[float, typer.Option(help="With --watch: seconds between updates.")] = 5.0,
    port: Annotated[
        int | None,
        typer.Option(help="With --watch: serve a live page on 127.0.0.1; 0 is any free port."),
    ] = None,
) -> None:
    """Write a report of an experiment as one HTML page."""
    from dcmnet.report.command import run

    run(experiment, out, store, results, watch=watch, every=every, port=port, console=Console())


def demo(
    out: Annotated[Path, typer.Option(help="Directory for everything it makes.")] = Path("demo"),
) -> None:
    """Ingest, predict, fine-tune, analyze and report on real molecules, in about a minute."""
    from dcmnet.demo import run

    run(out, Console())


def _say_what_boxes_know(models: list[str]) -> None:
    """Says that a model in the box may know the molecules that it was measured on."""
    from dcmnet.pretrained import is_pretrained

    for name in (each for each in models if is_pretrained(each)):
        Console().print(
            f"[yellow]Note:[/] {name} may have been trained on some of these molecules; 'dcmnet "
            f"models {name}' has its errors for molecules that it has not seen",
            highlight=False,
            soft_wrap=True,
        )
