"""Figures of the error of the ESP (Matplotlib)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
import xarray as xr
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from dcmnet.analysis.figures.style import (
    CHARGE_COLOURS,
    DENSITY,
    LEVEL_COLOURS,
    LEVEL_LABELS,
    LINE_COLOUR,
    MODEL_COLOUR,
    compare_on_diagonal,
    new_axes,
)
from dcmnet.analysis.grouping import charge_label
from dcmnet.analysis.statistics import Level
from store_schema.names import RESULTS_GROUP
from store_schema.units import HARTREE_IN_KCAL_PER_MOL

# Points a density is drawn from; more do not change the picture.
_MAX_POINTS = 400_000
# Column of the molecule table with the error of each level.
RMSE_COLUMNS: Mapping[Level, str] = {
    "model": "esp_rmse",
    "monopoles": "esp_rmse_monopoles",
    "fitted": "esp_rmse_fitted",
}


def esp_correlation(
    reference: Float[np.ndarray, " point"], predicted: Float[np.ndarray, " point"]
) -> Figure:
    """Draws the density of predicted against reference ESP, and that of their difference.

    Args:
        reference: hartree/e.
        predicted: hartree/e, at the same points.
    """
    figure, (ax, spread) = new_axes(columns=2)
    reference, predicted = (values * HARTREE_IN_KCAL_PER_MOL for values in (reference, predicted))
    ends = [min(reference.min(), predicted.min()), max(reference.max(), predicted.max())]
    drawn = ax.hexbin(
        reference,
        predicted,
        gridsize=80,
        extent=(*ends, *ends),
        bins="log",
        cmap=DENSITY,
        mincnt=1,
    )
    ax.plot(ends, ends, color=LINE_COLOUR, linewidth=0.8, linestyle="--")
    ax.set_aspect("equal")
    ax.set_xlabel("reference ESP (kcal/mol/e)")
    ax.set_ylabel("predicted ESP (kcal/mol/e)")
    figure.colorbar(drawn, ax=ax, label="points", shrink=0.9)
    error = predicted - reference
    rmse = float(np.sqrt(np.mean(error**2)))
    # A few points far out would squeeze all others; the text says how far they go.
    most = float(np.quantile(np.abs(error), 0.998)) or 1.0
    spread.hist(error, bins=80, range=(-most, most), color=MODEL_COLOUR)
    spread.axvline(0.0, color=LINE_COLOUR, linewidth=0.8, linestyle="--")
    spread.text(
        0.03,
        0.97,
        f"{error.size:,} points\nRMSE {rmse:.2f}\nmean {error.mean():+.2f}\n"
        f"largest {np.abs(error).max():.1f}\nkcal/mol/e",
        transform=spread.transAxes,
        va="top",
    )
    spread.set_xlabel("predicted − reference ESP (kcal/mol/e)")
    spread.set_ylabel("points")
    return figure


def shown_levels(table: pd.DataFrame) -> list[Level]:
    """Returns the levels that some molecule of a table has an error of."""
    return [
        level
        for level, column in RMSE_COLUMNS.items()
        if column in table and table[column].notna().any()
    ]


def esp_errors(table: pd.DataFrame) -> Figure:
    """Draws each molecule's ESP RMSE, of the model and of the reference levels.

    Only molecules that have every level shown are drawn, so that all stand for the same
    molecules.
    """
    figure, (ordered, paired) = new_axes(columns=2)
    levels = shown_levels(table)
    common = table.dropna(subset=[RMSE_COLUMNS[level] for level in levels])
    for level in levels:
        values = np.sort(common[RMSE_COLUMNS[level]])
        if not values.size:
            continue
        share = np.arange(values.size + 1) / values.size
        colour, label = LEVEL_COLOURS[level], LEVEL_LABELS[level]
        ordered.step(
            [values[0], *values], share, where="post", color=colour, linewidth=1.8, label=label
        )
        ordered.axvline(values.mean(), color=colour, linewidth=0.9, linestyle=":")
    ordered.set_xlim(left=0.0)
    ordered.yaxis.set_major_formatter(PercentFormatter(xmax=1.0))
    ordered.set_xlabel("ESP RMSE per molecule (kcal/mol/e), dotted: mean")
    ordered.set_ylabel("molecules with at most this error")
    ordered.legend(frameon=False, loc="lower right")
    _draw_pairs(paired, table.dropna(subset=["esp_rmse", "esp_rmse_monopoles"]))
    return figure


def _draw_pairs(ax: Axes, both: pd.DataFrame) -> None:
    ax.set_xlabel("ESP RMSE of reference monopoles (kcal/mol/e)")
    ax.set_ylabel("ESP RMSE of distributed charges (kcal/mol/e)")
    if both.empty:
        ax.text(0.5, 0.5, "no reference monopoles", transform=ax.transAxes, ha="center")
        return
    for charge, group in both.groupby("total_charge"):
        sign = int(np.sign(charge))
        ax.scatter(
            group["esp_rmse_monopoles"],
            group["esp_rmse"],
            s=18,
            alpha=0.8,
            linewidths=0,
            color=CHARGE_COLOURS[sign],
            label=charge_label(charge),
        )
    compare_on_diagonal(ax, both[["esp_rmse", "esp_rmse_monopoles"]].to_numpy().ravel())
    ax.legend(frameon=False, title="total charge", loc="lower right")


def grid_points(tree: xr.DataTree, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Returns reference and predicted ESP at valid points of the analysed molecules.

    At most about 400,000 points are read, of molecules spread evenly over the group.
    """
    molecules, results = tree.to_dataset(), tree[f"{RESULTS_GROUP}/{name}"].to_dataset()
    if "esp" not in molecules or "esp_predicted" not in results:
        return np.empty(0), np.empty(0)
    rows = np.flatnonzero(np.isfinite(results["esp_rmse"].values))
    width = max(molecules.sizes["grid_point"], 1)
    rows = rows[:: max(1, rows.size * width // _MAX_POINTS)]
    reference = molecules["esp"].isel(molecule=rows).values
    predicted = results["esp_predicted"].isel(molecule=rows).values
    valid = np.isfinite(reference) & np.isfinite(predicted)
    return reference[valid], predicted[valid]
