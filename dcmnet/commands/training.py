"""Commands that train: ``train``, ``resume``, ``sweep``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from dcmnet.console.options import ExperimentPath, Store, pairs, proportions
from dcmnet.training.processes.launcher import prepare_process


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
        bool, typer.Option("--resume", help="Resume the experiment if it exists.")
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

    own = {"init_from": init_from, "out": out, "track": list(dict.fromkeys(track or []))}
    fields = pairs(settings or [], "--set") | {name: given for name, given in own.items() if given}
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


def resume(experiment: ExperimentPath) -> None:
    """Resume an experiment exactly where it stopped; exit codes are those of train."""
    is_first = prepare_process()

    from dcmnet.experiment.metrics import print_outcome
    from dcmnet.train_runner import resume as run

    _, best, directory = run(experiment)
    print_outcome(best, directory, Console(quiet=not is_first))


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
