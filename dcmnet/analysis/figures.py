"""Figures of an experiment, for files (Matplotlib, no display needed)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import xarray as xr
from matplotlib.figure import Figure

from dcmnet.analysis.esp_figures import errors_beside_monopoles, esp_correlation, grid_points
from dcmnet.analysis.figure_style import new_axes
from dcmnet.analysis.training_figures import training_curves, training_pace
from dcmnet.training.log import EpochRecord

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
    """Writes the figures of an analysis as PNG files and returns their paths."""
    figures: dict[str, Figure] = {}
    if history:
        figures["training_curves"] = training_curves(history)
        figures["training_pace"] = training_pace(history)
    if table["esp_rmse"].notna().any():
        figures["esp_correlation"] = esp_correlation(*grid_points(tree, name))
        figures["errors_beside_monopoles"] = errors_beside_monopoles(table)
    paths = []
    for title, figure in figures.items():
        path = folder / f"{title}.png"
        figure.savefig(path)
        paths.append(path)
    return tuple(paths)
