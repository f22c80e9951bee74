"""How right an ensemble is about its errors: those it expects against the actual ones."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dcmnet.analysis.figures.style import LINE_COLOUR, MODEL_COLOUR, compare_on_diagonal, new_axes
from dcmnet.analysis.statistics import EnsembleStatistics


def calibration_figure(table: pd.DataFrame, ensemble: EnsembleStatistics) -> Figure:
    """Draws actual against expected errors, of molecules and of grid points.

    On the dashed line an ensemble is right about its errors; within the band, to a factor of two.

    Args:
        table: As ``molecule_table``.
        ensemble: Of the statistics of the analysis.
    """
    figure, (molecules, points) = new_axes(columns=2)
    both = table.dropna(subset=["esp_uncertainty", "esp_rmse"])
    molecules.scatter(
        both["esp_uncertainty"], both["esp_rmse"], s=16, alpha=0.6, lw=0, color=MODEL_COLOUR
    )
    _finish(molecules, both["esp_uncertainty"], both["esp_rmse"], "per molecule")
    binned = ensemble.points
    share = np.sqrt(np.array(binned.count) / max((*binned.count, 1)))
    points.scatter(binned.expected, binned.actual, s=12 + 110 * share, lw=0, color=MODEL_COLOUR)
    points.plot(binned.expected, binned.actual, color=MODEL_COLOUR, linewidth=1)
    _finish(points, binned.expected, binned.actual, "of grid points (larger: more of them)")
    return figure


def _finish(ax: Axes, expected: object, actual: object, what: str) -> None:
    values = np.concatenate([np.asarray(expected, float), np.asarray(actual, float)])
    ends = np.array(compare_on_diagonal(ax, values))
    ax.fill_between(ends, ends / 2, ends * 2, color=LINE_COLOUR, alpha=0.08, linewidth=0)
    ax.set_xlabel(f"expected error of the ESP (kcal/mol/e),\n{what}")
    ax.set_ylabel("actual error (kcal/mol/e)")
