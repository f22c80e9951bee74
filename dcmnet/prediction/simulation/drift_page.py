"""``dcmnet drift``: from a molecule to a table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from rich import box
from rich.console import Console
from rich.table import Table

from dcmnet.model.trained import TrainedModel
from dcmnet.prediction.inputs import open_structures
from dcmnet.prediction.mixture import Mixture
from dcmnet.prediction.predict import Predictor
from dcmnet.prediction.simulation.drift import Moved, drift
from pipeline.files import write_text
from store_schema.problems import SourceError

# What changes, and its unit.
_KINDS = {
    "stretch": ("bonds", "Å"),
    "bend": ("angles", "°"),
    "turn": ("torsions", "°"),
    "frame": ("frames of the file", ""),
}


def measure(
    model: Mixture[TrainedModel], source: str, charge: float | None, out: Path | None
) -> list[Moved]:
    """Measures the drift of a molecule's charges.

    Args:
        model: The network.
        source: The molecule, or frames of its trajectory.
        charge: Its net charge, e, whatever the source says.
        out: A CSV file for all geometries.

    Raises:
        SourceError: There is no molecule, frames are of different ones, or it has no frames.
    """
    structures = [
        each for window in open_structures(source, total_charge=charge).windows() for each in window
    ]
    first, *others = structures
    for other in others:
        if not np.array_equal(other.atomic_numbers, first.atomic_numbers):
            raise SourceError.of(
                other.place,
                expected=f"another geometry of {first.name}, atoms in the same order",
                received="another molecule",
                consequence="nothing was measured",
                remedy="Give frames of one molecule",
            )
    found = drift(Predictor(model), first, others)
    if out is not None:
        write_text(out, pd.DataFrame([vars(one) for one in found]).to_csv(index=False))
    return found


def print_drift(found: Sequence[Moved], console: Console) -> None:
    """Prints the mean and the largest error by kind and size of the change."""
    table = Table(
        box=box.SIMPLE, title="ESP RMSE of charges in fixed frames against the model's, kcal/mol/e"
    )
    table.add_column("what changes")
    for name in ("by", "geometries", "mean", "largest", "ESP"):
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
    console.print(
        "ESP: its root mean square there. Charges fitted to several conformers lose less as they "
        "turn: dcmnet predict CONFORMERS.xyz --out FILE.xml",
        highlight=False,
    )


def _size(one: Moved) -> float:
    """How far a geometry is away, whatever the direction; frames are all one."""
    return abs(one.by) if one.kind != "frame" else 0.0
