"""Commands on stores: ``ingest``, ``inspect``, ``validate``, ``bench``."""

from __future__ import annotations

from typing import Annotated, Literal

import typer
from rich.console import Console

from dcmnet.console.options import Declare, Store, pairs


def ingest(
    sources: Annotated[
        list[str],
        typer.Argument(metavar="SOURCE...", help="File, folder, glob, or a.npz+b.npz for columns."),
    ],
    store: Annotated[str, typer.Option(help="Store to write.")],
    declare: Declare = None,
    append: Annotated[bool, typer.Option("--append", help="Extend an existing store.")] = False,
    on_invalid: Annotated[
        Literal["quarantine", "raise"], typer.Option(help="What becomes of invalid molecules.")
    ] = "quarantine",
    allow_pickle: Annotated[
        bool, typer.Option("--allow-pickle", help="Unsafe: the file can execute code.")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Accept declarations that physics contradicts.")
    ] = False,
    drop_inside: Annotated[
        bool, typer.Option("--drop-inside", help="Leave out grid points that lie inside atoms.")
    ] = False,
    esp_from: Annotated[
        Literal["multipoles"] | None,
        typer.Option(help="Evaluate the ESP of molecules that have none."),
    ] = None,
    esp_points: Annotated[
        int | None,
        typer.Option(min=50, help="Points of each ESP that is evaluated; 1,000 by default."),
    ] = None,
    workers: Annotated[
        int, typer.Option(min=1, help="Threads, or processes with '--dask local'.")
    ] = 1,
    dask: Annotated[
        str | None,
        typer.Option(metavar="ADDRESS|local", help="Dask scheduler; needs the extra 'dask'."),
    ] = None,
) -> None:
    """Turn files of any convention (.npz, .h5, .xyz, .traj, .db) into one store."""
    from pipeline import ingest as run
    from pipeline.inspection.pages import print_report

    report = run(
        list(sources),
        store,
        declare=pairs(declare or [], "--declare"),
        append=append,
        on_invalid=on_invalid,
        allow_pickle=allow_pickle,
        force=force,
        drop_inside=drop_inside,
        esp_from=esp_from,
        esp_points=esp_points,
        workers=workers,
        dask=dask,
        progress=True,
    )
    print_report(report, store, Console())


def inspect(
    store: Store,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show what is in a store, what was inferred and why."""
    from pipeline.inspection.inspect import inspect_store
    from pipeline.inspection.pages import print_inspection

    inspection = inspect_store(store)
    if as_json:
        typer.echo(inspection.model_dump_json(indent=2))
    else:
        print_inspection(inspection, Console())


def validate(
    store: Store,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Check a store again, its schema and every molecule; exit code 1 if anything is wrong."""
    from pipeline.inspection.pages import print_validation
    from pipeline.inspection.validate import validate_store

    validation = validate_store(store)
    if as_json:
        typer.echo(validation.model_dump_json(indent=2))
    else:
        print_validation(validation, Console())
    if validation.problems:
        raise typer.Exit(1)


def bench(
    store: Store,
    batch_size: Annotated[int, typer.Option(min=1, help="Molecules per batch.")] = 16,
    seconds: Annotated[float, typer.Option(min=0.1, help="How long to stream.")] = 5.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Measure how fast this disk and machine deliver batches."""
    from pipeline.loader.bench import measure
    from pipeline.loader.bench_page import print_bench

    report = measure(store, batch_size=batch_size, seconds=seconds)
    if as_json:
        typer.echo(report.model_dump_json(indent=2))
    else:
        print_bench(report, store, Console())
