"""Figures of an experiment, for files (Matplotlib, no display needed)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import xarray as xr
from matplotlib.figure import Figure

from dcmnet.analysis.examples import read_examples
from dcmnet.analysis.figures.esp import errors_beside_monopoles, esp_correlation, grid_points
from dcmnet.analysis.figures.groups import charges_and_displacements, errors_by_group
from dcmnet.analysis.figures.molecules import examples_figure
from dcmnet.analysis.figures.style import new_axes
from dcmnet.analysis.figures.training import training_curves, training_pace
from dcmnet.analysis.statistics import load_statistics
from dcmnet.experiment.metrics import EpochRecord
from pipeline.files import replaced

__all__ = [
    "errors_beside_monopoles",
    "esp_correlation",
    "grid_points",
    "new_axes",
    "save_figures",
    "training_curves",
    "training_pace",
]


def save_figures(
    folder: Path,
    tree: xr.DataTree,
    name: str,
    table: pd.DataFrame,
    history: Sequence[EpochRecord],
) -> tuple[Path, ...]:
    """Writes the figures of an analysis as PNG files.

    Args:
        folder: Where to.
        tree: The store.
        name: Name of the results group.
        table: Its molecules (``molecule_table``).
        history: Epochs of the experiment.

    Returns:
        Paths of the files.

    Raises:
        StoreError: The group has no statistics.
    """
    figures: dict[str, Figure] = {}
    if history:
        figures["training_curves"] = training_curves(history)
        figures["training_pace"] = training_pace(history)
    if table["esp_rmse"].notna().any():
        figures["esp_correlation"] = esp_correlation(*grid_points(tree, name))
        figures["errors_beside_monopoles"] = errors_beside_monopoles(table)
        statistics = load_statistics(tree, name)
        figures["errors_by_group"] = errors_by_group(statistics)
        figures["charges_and_displacements"] = charges_and_displacements(statistics)
        figures["molecules"] = examples_figure(read_examples(tree, name, table))
    paths = []
    for title, figure in figures.items():
        path = folder / f"{title}.png"
        with replaced(path) as partial:
            figure.savefig(partial)
        paths.append(path)
    return tuple(paths)
