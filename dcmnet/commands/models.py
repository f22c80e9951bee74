"""Commands that use models: ``predict``, ``models``, ``drift``, ``export``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console

from dcmnet.console.options import Checkpoint, Declare, ModelSource, Overwrite, pairs

_INPUTS: Final = "[EXPERIMENT...] INPUT"


def predict(
    inputs: Annotated[
        list[str],
        typer.Argument(
            metavar="[EXPERIMENT...] INPUT",
            help="INPUT: a store, .sdf, .mol2, SMILES, or what ingest reads. Without an "
            "EXPERIMENT a model in the box predicts; several are an ensemble.",
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
        typer.Option("--strict", help="Refuse what is beyond the training, or the tested errors."),
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

    source, chosen = _named(inputs, model)
    console = Console()
    report = predict_file(
        chosen,
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


def models(
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="Show the card of this model.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List the models in the box, or describe one and its accuracy."""
    from dcmnet.pretrained import pretrained_names, read_card
    from dcmnet.pretrained.page import print_card, print_models

    cards = [read_card(each) for each in ([name] if name else pretrained_names())]
    if as_json:
        documents = [card.model_dump(mode="json") for card in cards]
        typer.echo(json.dumps(documents[0] if name else documents, indent=2))
    elif name:
        print_card(cards[0], Console())
    else:
        print_models(cards, Console())


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


def drift(
    inputs: Annotated[
        list[str],
        typer.Argument(
            metavar="[EXPERIMENT...] MOLECULE",
            help="MOLECULE: what predict takes; several frames are a trajectory of one molecule, "
            "the first is what the charges are predicted for.",
        ),
    ],
    model: Annotated[
        str | None, typer.Option(help="A model in the box, as 'dcmnet models' lists them.")
    ] = None,
    charge: Annotated[
        float | None, typer.Option(help="Net charge of the molecule, e; else what it says.")
    ] = None,
    checkpoint: Checkpoint = "best",
    out: Annotated[
        Path | None, typer.Option(metavar="FILE.csv", help="A table of every geometry, too.")
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Measure what charges in fixed frames lose as a molecule stretches, bends and turns."""
    from dcmnet.prediction.run import load_mixture
    from dcmnet.prediction.simulation.drift_page import measure, print_drift

    source, chosen = _named(inputs, model)
    measured = measure(
        load_mixture(chosen, checkpoint=checkpoint), source, charge, out, overwrite=overwrite
    )
    print_drift(measured, Console())
    if out is not None:
        typer.echo(out)


def _named(inputs: list[str], model: str | None) -> tuple[str, list[str]]:
    """Returns what to predict, and the models that ``[EXPERIMENT...] INPUT`` and --model name."""
    from dcmnet.pretrained import DEFAULT, is_pretrained
    from pipeline.structures import is_smiles

    *experiments, source = inputs
    if experiments and model:
        raise typer.BadParameter("give EXPERIMENTs, or --model, or neither", param_hint=_INPUTS)
    if is_pretrained(source):
        raise typer.BadParameter(f"{source} is a model; name the molecules too", param_hint=_INPUTS)
    for each in experiments:
        is_file = Path(each).is_file() and not each.endswith(".pkl")
        no_model = not Path(each).exists() and not is_pretrained(each) and "://" not in each
        if is_file or (no_model and is_smiles(each)):
            raise typer.BadParameter(
                f"{each} is a {'file of molecules' if is_file else 'SMILES'}; give one INPUT at a "
                "time, such as a .smi file with a SMILES per line",
                param_hint=_INPUTS,
            )
    return source, experiments or [model or DEFAULT]
