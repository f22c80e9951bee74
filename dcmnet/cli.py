"""The command line: arguments in, pages and exit codes out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console

from dcmnet.console.options import (
    Checkpoint,
    Declare,
    ExperimentPath,
    ModelSource,
    Overwrite,
    Store,
    pairs,
    proportions,
)
from dcmnet.console.reference import reference
from dcmnet.console.refusal import refuse_politely
from dcmnet.training.processes.launcher import prepare_process

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


app.command()(reference)


@app.command()
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
        workers=workers,
        dask=dask,
        progress=True,
    )
    print_report(report, store, Console())


@app.command()
def inspect(
    store: Store,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Show what is in a store, what was inferred and why."""
    from pipeline.inspection.inspect import inspect_store
    from pipeline.inspection.pages import print_inspection

    inspection = inspect_store(store)
    if as_json:
        typer.echo(inspection.model_dump_json(indent=2))
    else:
        print_inspection(inspection, Console())


@app.command()
def validate(
    store: Store,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
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


@app.command()
def train(
    stores: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="STORE...", help="Folder or URL, or several; those of --config by default."
        ),
    ] = None,
    *,
    name: Annotated[str, typer.Option(help="Name of the experiment.")],
    preset: Annotated[
        str | None, typer.Option(metavar="quick|quality|finetune", help="Settings to start from.")
    ] = None,
    config: Annotated[
        Path | None, typer.Option(metavar="FILE.json", help="A config.json to start from.")
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="FIELD=VALUE", help="Set a field, e.g. model.n_dcm=2."),
    ] = None,
    init_from: Annotated[
        str | None,
        typer.Option(
            metavar="dcm2|EXPERIMENT|FILE.pkl",
            help="Network and parameters to start from; 'dcmnet models' lists those in the box.",
        ),
    ] = None,
    ratio: Annotated[
        str | None, typer.Option(metavar="3:1", help="Batches of each STORE, in proportion.")
    ] = None,
    out: Annotated[str | None, typer.Option(help="Directory of all experiments.")] = None,
    track: Annotated[
        list[str] | None,
        typer.Option(
            metavar="mlflow|wandb", help="Follow the run there too; needs the extra of that name."
        ),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Resume where the experiment exists, as jobs do.")
    ] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", help="Show all parameters, with lovely_jax if there.")
    ] = False,
) -> None:
    """Train a network on stores; exit code 75 if SIGTERM stopped it, to be resumed."""
    is_first = prepare_process()

    from dcmnet.config import load_config
    from dcmnet.experiment.metrics import print_outcome
    from dcmnet.train_runner import make_config, run_training

    fields: dict[str, object] = {**pairs(settings or [], "--set")}
    fields |= {"init_from": init_from} if init_from else {}
    fields |= {"out": out} if out else {}
    fields |= {"track": list(dict.fromkeys(track))} if track else {}
    chosen = make_config(load_config(config) if config else None, preset, fields)
    if not stores and not chosen.data.store:
        raise typer.BadParameter("name one, or a --config that does", param_hint="STORE")
    _, best, directory = run_training(
        name,
        stores or None,
        config=chosen,
        verbose=verbose,
        resume=resume,
        ratio=proportions(ratio) if ratio else None,
    )
    print_outcome(best, directory, Console(quiet=not is_first))


@app.command()
def resume(experiment: ExperimentPath) -> None:
    """Resume an experiment exactly where it stopped; exit codes as train."""
    is_first = prepare_process()

    from dcmnet.experiment.metrics import print_outcome
    from dcmnet.train_runner import resume as run

    _, best, directory = run(experiment)
    print_outcome(best, directory, Console(quiet=not is_first))


@app.command()
def sweep(
    store: Store,
    config: Annotated[
        Path, typer.Option(metavar="SPACE.json", help="What to search, see docs/sweeps.md.")
    ],
    workers: Annotated[int, typer.Option(min=1, help="Processes.")] = 1,
    trials: Annotated[
        int | None, typer.Option(min=1, help="Trials in all; those of SPACE by default.")
    ] = None,
    out: Annotated[str | None, typer.Option(help="Directory of all experiments.")] = None,
) -> None:
    """Search settings with many experiments, resumed by the same command. Needs extra 'sweep'."""
    from dcmnet.sweep import run_sweep

    fields = {"trials": trials, "out": out}
    given = {name: value for name, value in fields.items() if value is not None}
    run_sweep(config, store, workers=workers, console=Console(), **given)


@app.command()
def analyze(
    experiment: ModelSource,
    store: Annotated[
        str | None, typer.Option(help="Store to analyse; the one trained on by default.")
    ] = None,
    split: Annotated[str, typer.Option(metavar="train|valid|test|all")] = "test",
    checkpoint: Checkpoint = "best",
    name: Annotated[
        str | None, typer.Option(help="Name of the results; the experiment's by default.")
    ] = None,
    overwrite: Overwrite = False,
    formats: Annotated[
        str,
        typer.Option("--export", metavar="FORMATS", help="Of json,csv,parquet,pkl,netcdf."),
    ] = "json,csv",
) -> None:
    """Write predictions and errors of a checkpoint back into the store."""
    from dcmnet.analysis.analyze import analyze as run
    from dcmnet.analysis.export import parse_formats
    from dcmnet.analysis.tables import print_analysis

    analysis = run(
        experiment,
        store=store,
        split=split,
        checkpoint=checkpoint,
        name=name,
        overwrite=overwrite,
        formats=parse_formats(formats),
        progress=True,
    )
    print_analysis(analysis, Console())


@app.command()
def compare(
    experiments: Annotated[
        list[str],
        typer.Argument(
            metavar="EXPERIMENT...", help="Directories; DIRECTORY@epoch_20 names a checkpoint."
        ),
    ],
    store: Annotated[
        str | None, typer.Option(help="Store to compare on; the one trained on by default.")
    ] = None,
    split: Annotated[str, typer.Option(metavar="train|valid|test|all")] = "test",
    out: Annotated[Path, typer.Option(metavar="FILE.png", help="Where the figure goes.")] = Path(
        "comparison.png"
    ),
) -> None:
    """Compare experiments and checkpoints, molecule by molecule."""
    from dcmnet.analysis.compare import compare as run
    from dcmnet.analysis.figures.comparison import check_figure, save_comparison
    from dcmnet.analysis.tables import print_comparison

    check_figure(out)
    comparison = run(experiments, split=split, store=store)
    print_comparison(comparison, Console())
    for path in save_comparison(comparison, out):
        typer.echo(path)


@app.command()
def predict(
    inputs: Annotated[
        list[str],
        typer.Argument(
            metavar="[EXPERIMENT] INPUT",
            help="INPUT: a store, .sdf, .mol2, SMILES, or what ingest reads. "
            "Without an EXPERIMENT a model in the box predicts.",
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(
            help=".xyz, .npz or .nc; of one molecule also .dcm (CHARMM), .xml (OpenMM), "
            ".itp (GROMACS)."
        ),
    ],
    model: Annotated[
        str | None, typer.Option(help="A model in the box, as 'dcmnet models' lists them.")
    ] = None,
    others: Annotated[
        list[str] | None,
        typer.Option(
            "--with",
            metavar="ELEMENT|ATOMS=EXPERIMENT",
            help="Take these atoms' charges from another model, e.g. H=experiments/n1 or 0,3=...",
        ),
    ] = None,
    charge: Annotated[
        float | None, typer.Option(help="Net charge of every molecule, e; else what INPUT says.")
    ] = None,
    strict: Annotated[
        bool,
        typer.Option("--strict", help="Refuse elements, charges and sizes beyond the training."),
    ] = False,
    refine: Annotated[
        bool, typer.Option("--refine", help="Fit the charges to the ESP that INPUT has.")
    ] = False,
    checkpoint: Checkpoint = "best",
    residue: Annotated[
        str, typer.Option(help="Name of the residue in .dcm, .xml and .itp.")
    ] = "MOL",
    declare: Declare = None,
    overwrite: Overwrite = False,
) -> None:
    """Predict the distributed charges of molecules and write them to a file."""
    from dcmnet.prediction.run import predict_file, print_prediction
    from dcmnet.pretrained import DEFAULT

    *experiments, source = inputs
    if len(experiments) > 1 or (experiments and model):
        raise typer.BadParameter(
            "give one EXPERIMENT, or --model, or neither", param_hint="[EXPERIMENT] INPUT"
        )
    console = Console()
    report = predict_file(
        (experiments or [model or DEFAULT])[0],
        source,
        out,
        others=others or [],
        checkpoint=checkpoint,
        total_charge=charge,
        strict=strict,
        refine=refine,
        residue=residue,
        declare=pairs(declare or [], "--declare"),
        overwrite=overwrite,
        console=console,
    )
    print_prediction(report, console)


@app.command()
def models(
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="Show the card of this model.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """List the models in the box, or show what one of them is and how good."""
    from dcmnet.pretrained import pretrained_names, read_card
    from dcmnet.pretrained.page import print_card, print_models

    cards = [read_card(each) for each in ([name] if name else pretrained_names())]
    if as_json:
        typer.echo("\n".join(card.model_dump_json(indent=2) for card in cards))
    elif name:
        print_card(cards[0], Console())
    else:
        print_models(cards, Console())


@app.command()
def export(
    experiment: ModelSource,
    out: Annotated[Path, typer.Option(help="File to write, such as model.dcmx.")],
    checkpoint: Checkpoint = "best",
    overwrite: Overwrite = False,
) -> None:
    """Freeze a model into one file that runs without this package."""
    from dcmnet.prediction.exported import export_model

    path = export_model(experiment, out, checkpoint=checkpoint, overwrite=overwrite)
    typer.echo(f"{path}: run it with 'python {path} MOLECULE.xyz [TOTAL_CHARGE]'")


@app.command()
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
        bool, typer.Option("--watch", help="Write it again after each epoch while training runs.")
    ] = False,
    every: Annotated[float, typer.Option(help="Seconds between looks with --watch.")] = 5.0,
    port: Annotated[
        int | None, typer.Option(help="Of a live page on 127.0.0.1, with --watch; 0: any free one.")
    ] = None,
) -> None:
    """Write a report of an experiment as one HTML page."""
    from dcmnet.report.command import run

    run(experiment, out, store, results, watch=watch, every=every, port=port, console=Console())


@app.command()
def bench(
    store: Store,
    batch_size: Annotated[int, typer.Option(min=1, help="Molecules per batch.")] = 16,
    seconds: Annotated[float, typer.Option(min=0.1, help="How long to stream.")] = 5.0,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Measure how fast this disk and machine deliver batches."""
    from pipeline.loader.bench import measure
    from pipeline.loader.bench_page import print_bench

    report = measure(store, batch_size=batch_size, seconds=seconds)
    if as_json:
        typer.echo(report.model_dump_json(indent=2))
    else:
        print_bench(report, store, Console())


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Directory for everything it makes.")] = Path("demo"),
) -> None:
    """Ingest, predict, fine-tune, analyze and report on real molecules, in about a minute."""
    from dcmnet.demo import run

    run(out, Console())


def main() -> None:
    """Runs the command line."""
    refuse_politely(app)


if __name__ == "__main__":
    main()
