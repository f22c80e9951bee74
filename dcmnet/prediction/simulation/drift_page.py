"""``dcmnet drift``: from a molecule to a table."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from rich import box
from rich.console import Console
from rich.table import Table

from dcmnet.model.trained import TrainedModel
from dcmnet.prediction.inputs import open_structures
from dcmnet.prediction.mixture import Mixture
from dcmnet.prediction.outputs import check_not_input, new_file
from dcmnet.prediction.predict import Predictor
from dcmnet.prediction.simulation.drift import Moved, drift
from dcmnet.prediction.survey import CHARGE_ASSUMED
from store_schema.problems import ConfigError, SourceError

# What changes, and its unit.
_KINDS = {
    "stretch": ("bonds", "Å"),
    "bend": ("angles", "°"),
    "turn": ("torsions", "°"),
    "frame": ("frames of the file", ""),
}


def measure(
    model: Mixture[TrainedModel],
    source: str,
    charge: float | None,
    out: Path | None,
    *,
    overwrite: bool = False,
) -> list[Moved]:
    """Measures the drift of a molecule's charges.

    Args:
        model: The network.
        source: The molecule, or frames of its trajectory.
        charge: Its net charge, e, whatever the source says.
        out: A CSV file for all geometries.
        overwrite: Whether a file of that name is replaced.

    Raises:
        ConfigError: The file exists, is the input, or is no CSV.
        SourceError: There is no molecule, or geometries are not of one molecule with frames.
    """
    if out is None:
        return _measured(model, source, charge)
    if out.suffix != ".csv":
        raise ConfigError.of(
            f"--out {out}",
            wrong=f"a table cannot end in {out.suffix or 'nothing'}; it ends in .csv",
            consequence="nothing was measured",
            remedy="Choose another name",
        )
    check_not_input(out, source)
    with new_file(out, overwrite) as partial:
        found = _measured(model, source, charge)
        pd.DataFrame([vars(one) for one in found]).to_csv(partial, index=False)
    return found


def _measured(model: Mixture[TrainedModel], source: str, charge: float | None) -> list[Moved]:
    windows = open_structures(source, total_charge=charge).windows()
    structures = [each for window in windows for each in window]
    if not structures:
        raise SourceError.of(
            source,
            wrong="there are no molecules in it",
            consequence="nothing was measured",
            remedy="Give a file that holds one",
        )
    if not structures[0].charge_given:
        warnings.warn(
            f"{source} gives no net charge; {CHARGE_ASSUMED}",
            stacklevel=2,
        )
    first, *others = (replace(structure, charge_given=True) for structure in structures)
    return drift(Predictor(model), first, others)


def print_drift(found: Sequence[Moved], console: Console) -> None:
    """Prints the mean and the largest error by kind and size of the change."""
    table = Table(
        box=box.SIMPLE, title="ESP RMSE of charges in fixed frames against the model's, kcal/mol/e"
    )
    table.add_column("what changes")
    for name in ("change", "geometries", "mean", "largest", "ESP"):
        table.add_column(name, justify="right")
    for kind, (what, unit) in _KINDS.items():
        own = [one for one in found if one.kind == kind]
        for step in sorted({_size(one) for one in own}):
            some = [one for one in own if _size(one) == step]
            errors = [one.rmse for one in some]
            table.add_row(
                what,
                f"{step:g} {unit}" if unit else "",
                f"{len(some):,}",
                f"{np.mean(errors):.2f}",
                f"{max(errors):.2f}",
                f"{np.mean([one.size for one in some]):.1f}",
            )
    console.print(table)
    console.print("ESP: root mean square of the model's ESP at these geometries.", highlight=False)
    if any(one.kind == "turn" for one in found):
        console.print(
            "Charges fitted to several conformers lose less as bonds turn: "
            "dcmnet predict CONFORMERS.xyz --out FILE.xml",
            highlight=False,
        )


def _size(one: Moved) -> float:
    """How far a geometry is away, whatever the direction; frames are all one."""
    return abs(one.by) if one.kind != "frame" else 0.0
