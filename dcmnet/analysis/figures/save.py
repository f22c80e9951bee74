"""Figures of an experiment, for files (Matplotlib, no display needed)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import pandas as pd
import xarray as xr
from matplotlib.figure import Figure

from dcmnet.analysis.examples import read_examples
from dcmnet.analysis.figures.calibration import calibration_figure
from dcmnet.analysis.figures.esp import esp_correlation, esp_errors, grid_points
from dcmnet.analysis.figures.groups import charges_and_displacements, errors_by_group
from dcmnet.analysis.figures.ladder import ladder_figure
from dcmnet.analysis.figures.molecules import examples_figure
from dcmnet.analysis.figures.style import new_axes
from dcmnet.analysis.figures.training import training_curves, training_pace
from dcmnet.analysis.statistics import load_statistics
from dcmnet.experiment.metrics import EpochRecord
from pipeline.files import replaced
from store_schema.names import DCM, RESULTS_GROUP

__all__ = [
    "esp_correlation",
    "esp_errors",
    "grid_points",
    "new_axes",
    "remove_figures",
    "save_figures",
    "training_curves",
    "training_pace",
]

# Of every figure that an analysis may have; each is a file.
_TITLES: Final = (
    "training_curves",
    "training_pace",
    "esp_correlation",
    "esp_errors",
    "multipole_ladder",
    "calibration",
    "errors_by_group",
    "charges_and_displacements",
    "molecules",
)


def save_figures(
    folder: Path,
    tree: xr.DataTree,
    name: str,
    table: pd.DataFrame,
    history: Sequence[EpochRecord],
) -> tuple[Path, ...]:
    """Writes the figures of an analysis as PNG files, in place of those of an earlier one.

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
    return _replace(folder, _drawn(tree, name, table, history))


def remove_figures(folder: Path) -> None:
    """Removes the figures of an analysis, whose results have been replaced."""
    _replace(folder, {})


def _drawn(
    tree: xr.DataTree, name: str, table: pd.DataFrame, history: Sequence[EpochRecord]
) -> dict[str, Figure]:
    """Draws what there are results for."""
    figures: dict[str, Figure] = {}
    if history:
        figures["training_curves"] = training_curves(history)
        figures["training_pace"] = training_pace(history)
    if table["esp_rmse"].notna().any():
        n_dcm = tree[f"{RESULTS_GROUP}/{name}"].to_dataset().sizes[DCM]
        figures["esp_correlation"] = esp_correlation(*grid_points(tree, name))
        figures["esp_errors"] = esp_errors(table)
        figures["multipole_ladder"] = ladder_figure(table, n_dcm)
        statistics = load_statistics(tree, name)
        if statistics.ensemble:
            figures["calibration"] = calibration_figure(table, statistics.ensemble)
        figures["errors_by_group"] = errors_by_group(statistics)
        figures["charges_and_displacements"] = charges_and_displacements(statistics)
        figures["molecules"] = examples_figure(read_examples(tree, name, table))
    return figures


def _replace(folder: Path, figures: Mapping[str, Figure]) -> tuple[Path, ...]:
    """Writes figures; of those that are not among them, removes what an earlier analysis left."""
    written = []
    for title in _TITLES:
        path = folder / f"{title}.png"
        if title not in figures:
            path.unlink(missing_ok=True)
            continue
        with replaced(path) as partial:
            figures[title].savefig(partial)
        written.append(path)
    return tuple(written)
