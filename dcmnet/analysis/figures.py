"""Figures of an experiment, for files (Matplotlib, no display needed)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dcmnet.training.log import EpochRecord
from store_schema.names import RESULTS_GROUP
from store_schema.units import HARTREE_IN_KCAL_PER_MOL

MODEL_COLOUR = "#2b6cb0"
REFERENCE_COLOUR = "#dd8a1f"
_TRAIN_COLOUR = "#8a94a6"
# Points a density is drawn from; more do not change the picture.
_MAX_POINTS = 400_000


def new_axes(
    columns: int = 1, width: float = 5.2, height: float = 4.2
) -> tuple[Figure, list[Axes]]:
    """Returns a figure with a row of axes in the house's style."""
    figure = Figure(figsize=(width * columns, height), layout="constrained", dpi=150)
    axes = list(np.atleast_1d(figure.subplots(1, columns)))
    for ax in axes:
        ax.spines[["top", "right"]].set_visible(False)
        ax.grid(alpha=0.25, linewidth=0.6)
        ax.set_axisbelow(True)
    return figure, axes


def training_curves(history: Sequence[EpochRecord]) -> Figure:
    """Draws loss and ESP RMSE of training and validation over the epochs."""
    figure, axes = new_axes(columns=2)
    epochs = [record.epoch for record in history]
    labels = {"loss": "loss", "esp_rmse": "ESP RMSE, mean of molecules (kcal/mol/e)"}
    for ax, (metric, label) in zip(axes, labels.items(), strict=True):
        for part, colour in (("train", _TRAIN_COLOUR), ("valid", MODEL_COLOUR)):
            values = [getattr(record, part).get(metric, np.nan) for record in history]
            if np.isfinite(values).any():
                style = "o-" if len(epochs) < 3 else "-"
                ax.plot(epochs, values, style, color=colour, linewidth=1.8, label=part)
        ax.set_yscale("log")
        ax.set_xlabel("epoch")
        ax.set_ylabel(label)
        ax.legend(frameon=False)
    best = [record for record in history if record.best]
    if best and "esp_rmse" in best[-1].valid:
        value = best[-1].valid["esp_rmse"]
        axes[1].plot(best[-1].epoch, value, "o", color=MODEL_COLOUR)
        axes[1].annotate(
            f"best {value:.2f}",
            (best[-1].epoch, value),
            textcoords="offset points",
            xytext=(-6, 8),
            ha="right",
            color=MODEL_COLOUR,
        )
    return figure


def esp_correlation(
    reference: Float[np.ndarray, " point"], predicted: Float[np.ndarray, " point"]
) -> Figure:
    """Draws the density of predicted against reference ESP.

    Args:
        reference: hartree/e.
        predicted: hartree/e, at the same points.
    """
    figure, (ax,) = new_axes(width=5.6, height=4.8)
    reference, predicted = (values * HARTREE_IN_KCAL_PER_MOL for values in (reference, predicted))
    drawn = ax.hexbin(reference, predicted, gridsize=90, bins="log", cmap="Blues", mincnt=1)
    ends = [min(reference.min(), predicted.min()), max(reference.max(), predicted.max())]
    ax.plot(ends, ends, color="#444", linewidth=0.8, linestyle="--")
    rmse = float(np.sqrt(np.mean((predicted - reference) ** 2)))
    correlation = float(np.corrcoef(reference, predicted)[0, 1])
    ax.text(
        0.04,
        0.96,
        f"{reference.size:,} points\nRMSE {rmse:.2f} kcal/mol/e\nr² {correlation**2:.4f}",
        transform=ax.transAxes,
        va="top",
    )
    ax.set_xlabel("reference ESP (kcal/mol/e)")
    ax.set_ylabel("predicted ESP (kcal/mol/e)")
    figure.colorbar(drawn, ax=ax, label="points")
    return figure


def errors_beside_monopoles(table: pd.DataFrame) -> Figure:
    """Draws each molecule's ESP RMSE, of the model and of the reference monopoles."""
    figure, (ordered, paired) = new_axes(columns=2)
    both = table.dropna(subset=["esp_rmse", "esp_rmse_monopoles"])
    for column, colour, label in (
        ("esp_rmse", MODEL_COLOUR, "distributed charges"),
        ("esp_rmse_monopoles", REFERENCE_COLOUR, "reference monopoles"),
    ):
        values = np.sort(table[column].dropna())
        if not values.size:
            continue
        share = (np.arange(values.size) + 1) / values.size
        ordered.step(values, share, where="post", color=colour, linewidth=1.8, label=label)
        ordered.axvline(values.mean(), color=colour, linewidth=0.8, linestyle=":")
    ordered.set_xlabel("ESP RMSE of a molecule (kcal/mol/e), dotted: mean")
    ordered.set_ylabel("share of molecules")
    ordered.legend(frameon=False, loc="lower right")
    for charge, group in both.groupby("total_charge"):
        paired.scatter(
            group["esp_rmse_monopoles"], group["esp_rmse"], s=14, alpha=0.7, label=f"{charge:+.0f}"
        )
    if len(both):
        end = float(both[["esp_rmse", "esp_rmse_monopoles"]].to_numpy().max()) * 1.05
        paired.plot([0, end], [0, end], color="#444", linewidth=0.8, linestyle="--")
        paired.legend(frameon=False, title="total charge")
    paired.set_xlabel("reference monopoles (kcal/mol/e)")
    paired.set_ylabel("distributed charges (kcal/mol/e)")
    return figure


def grid_points(tree: xr.DataTree, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Returns reference and predicted ESP at valid points of the analysed molecules.

    At most about 400,000 points are read, of molecules spread evenly over the group.
    """
    molecules, results = tree.to_dataset(), tree[f"{RESULTS_GROUP}/{name}"].to_dataset()
    rows = np.flatnonzero(np.isfinite(results["esp_rmse"].values))
    width = max(molecules.sizes["grid_point"], 1)
    rows = rows[:: max(1, rows.size * width // _MAX_POINTS)]
    reference = molecules["esp"].isel(molecule=rows).values
    predicted = results["esp_predicted"].isel(molecule=rows).values
    valid = np.isfinite(reference) & np.isfinite(predicted)
    return reference[valid], predicted[valid]


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
    if table["esp_rmse"].notna().any():
        figures["esp_correlation"] = esp_correlation(*grid_points(tree, name))
        figures["errors_beside_monopoles"] = errors_beside_monopoles(table)
    paths = []
    for title, figure in figures.items():
        path = folder / f"{title}.png"
        figure.savefig(path)
        paths.append(path)
    return tuple(paths)
