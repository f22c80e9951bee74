"""Charts of the error of the ESP: how large, and compared with what."""

from __future__ import annotations

import html

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from jaxtyping import Float
from matplotlib.colors import to_hex

from dcmnet.analysis.figures.esp import (
    RMSE_COLUMNS,
    esp_correlation,
    esp_errors,
    shown_levels,
)
from dcmnet.analysis.figures.style import (
    CHARGE_COLOURS,
    DENSITY,
    LEVEL_COLOURS,
    LEVEL_LABELS,
    MODEL_COLOUR,
)
from dcmnet.analysis.grouping import charge_label
from dcmnet.report.panel import DASHED, MAX_MOLECULES, Panel, chart, on_diagonal
from store_schema.units import HARTREE_IN_KCAL_PER_MOL

_BINS = 90
# Steps drawn at most.
_MAX_STEPS = 1000
_DENSITY_SCALE = [[float(s), to_hex(DENSITY(s))] for s in np.linspace(0.0, 1.0, 9)]


def correlation_panel(
    reference: Float[np.ndarray, " point"], predicted: Float[np.ndarray, " point"], of: int
) -> Panel:
    """Returns the density of predicted against reference ESP, and that of their difference.

    Args:
        reference: hartree/e.
        predicted: hartree/e, at the same points.
        of: Points there are; those given are all of them or a share.
    """
    x, y = (values * HARTREE_IN_KCAL_PER_MOL for values in (reference, predicted))
    error = y - x
    rmse = float(np.sqrt(np.mean(error**2)))
    thinned = (
        f"All {of:,} grid points."
        if x.size >= of
        else f"{x.size:,} of {of:,} grid points, of molecules spread evenly over the results."
    )
    return Panel(
        name="correlation",
        charts=[("Predicted against reference", _density(x, y)), ("Error", _histogram(error))],
        still=esp_correlation(reference, predicted),
        alt=f"A density of points along the diagonal from {x.min():.0f} to {x.max():.0f} "
        f"kcal/mol/e, and a histogram of errors about {error.mean():+.2f} kcal/mol/e with a "
        f"root mean square of {rmse:.2f}.",
        caption=f"Predicted against reference ESP, on the dashed line where they agree, and the "
        f"distribution of their difference; its last bars leave out 0.2 % of the points, up to "
        f"{np.abs(error).max():.1f} kcal/mol/e. {thinned}",
    )


def references_panel(table: pd.DataFrame) -> Panel:
    """Returns each molecule's error, of the model and of the reference levels."""
    both = table.dropna(subset=["esp_rmse", "esp_rmse_monopoles"])
    thinned = ""
    charts = [("Molecules with at most this error", _cumulative(table))]
    if len(both):
        every = -(-len(both) // MAX_MOLECULES)
        charts.append(("ESP RMSE, molecule by molecule", _pairs(both.iloc[::every])))
        if every > 1:
            thinned = f" Every {every}th molecule is drawn."
    means = "; ".join(
        f"{LEVEL_LABELS[level]} {table[RMSE_COLUMNS[level]].mean():.2f}"
        for level in shown_levels(table)
    )
    better = int((both["esp_rmse"] < both["esp_rmse_monopoles"]).sum())
    pairs = (
        f" Below the dashed line ({better} of {len(both)} molecules) the distributed charges are "
        "nearer to the reference ESP than its monopoles."
        if len(both)
        else ""
    )
    return Panel(
        name="references",
        charts=charts,
        still=esp_errors(table),
        alt=f"Cumulative distributions of the ESP RMSE of molecules. Means in kcal/mol/e: {means}."
        + pairs,
        caption="First: share of molecules whose ESP RMSE is at most the value on the axis; only "
        "molecules that have every level shown. Second: each molecule's error against that of its "
        f"reference monopoles, on logarithmic axes.{pairs}{thinned}"
        if len(both)
        else "Share of molecules whose ESP RMSE is at most the value on the axis.",
    )


def _density(x: Float[np.ndarray, " p"], y: Float[np.ndarray, " p"]) -> go.Figure:
    ends = float(min(x.min(), y.min())), float(max(x.max(), y.max()))
    counts, edges, _ = np.histogram2d(x, y, bins=_BINS, range=(ends, ends))
    centres = ((edges[1:] + edges[:-1]) / 2).astype(np.float32)
    shown = np.where(counts > 0, counts, np.nan).T
    decades = np.arange(int(np.log10(counts.max())) + 1)
    heatmap = go.Heatmap(
        x=centres,
        y=centres,
        z=np.log10(shown).astype(np.float32),
        customdata=counts.T.astype(np.int32),
        colorscale=_DENSITY_SCALE,
        colorbar={
            "title": {"text": "points", "side": "right"},
            "tickvals": decades.tolist(),
            "ticktext": [f"{10**d:,}" for d in decades],
            "thickness": 10,
            "len": 0.9,
            "outlinewidth": 0,
        },
        hovertemplate="reference %{x:.1f}, predicted %{y:.1f}: %{customdata} points<extra></extra>",
        hoverongaps=False,
    )
    title = "ESP (kcal/mol/e)"
    return chart(
        [heatmap, go.Scatter(x=ends, y=ends, mode="lines", line=DASHED, hoverinfo="skip")],
        {"title": f"reference {title}", "range": ends},
        {"title": f"predicted {title}", "range": ends},
        showlegend=False,
    )


def _histogram(error: Float[np.ndarray, " p"]) -> go.Figure:
    most = float(np.quantile(np.abs(error), 0.998)) or 1.0
    counts, edges = np.histogram(error, bins=80, range=(-most, most))
    bars = go.Bar(
        x=((edges[1:] + edges[:-1]) / 2).astype(np.float32),
        y=counts.astype(np.int32),
        marker={"color": MODEL_COLOUR, "line": {"width": 0}},
        hovertemplate="%{x:.2f} kcal/mol/e: %{y:,} points<extra></extra>",
    )
    return chart(
        [bars],
        {"title": "error of the ESP (kcal/mol/e)"},
        {"title": "points"},
        bargap=0,
        showlegend=False,
    )


def _cumulative(table: pd.DataFrame) -> go.Figure:
    levels = shown_levels(table)
    common = table.dropna(subset=[RMSE_COLUMNS[level] for level in levels])
    traces = []
    for level in levels:
        values = np.sort(common[RMSE_COLUMNS[level]].to_numpy(np.float64))
        share = np.arange(1, values.size + 1) / max(values.size, 1)
        if values.size > _MAX_STEPS:
            share = np.linspace(0.0, 1.0, _MAX_STEPS)
            values = np.quantile(values, share)
        traces.append(
            go.Scatter(
                x=values.astype(np.float32),
                y=share.astype(np.float32),
                mode="lines",
                line={"color": LEVEL_COLOURS[level], "width": 2, "shape": "hv"},
                name=LEVEL_LABELS[level],
                hovertemplate="%{y:.0%} have at most %{x:.2f} kcal/mol/e<extra></extra>",
            )
        )
    return chart(
        traces,
        {"title": "ESP RMSE per molecule (kcal/mol/e)", "rangemode": "tozero"},
        {"title": "share of molecules", "tickformat": ".0%", "range": [0, 1.02]},
    )


def _pairs(both: pd.DataFrame) -> go.Figure:
    traces = []
    for charge, group in both.groupby("total_charge", dropna=False):
        sign = 0 if pd.isna(charge) else int(np.sign(charge))
        traces.append(
            go.Scatter(
                x=group["esp_rmse_monopoles"].to_numpy(np.float32),
                y=group["esp_rmse"].to_numpy(np.float32),
                mode="markers",
                marker={
                    "color": CHARGE_COLOURS[sign],
                    "size": 8,
                    "opacity": 0.75,
                },
                name="charge " + charge_label(charge).replace("-", "−"),
                text=[html.escape(str(name)) for name in group["molecule_id"]],
                hovertemplate="%{text}: %{y:.2f}, monopoles %{x:.2f} kcal/mol/e<extra></extra>",
            )
        )
    return on_diagonal(
        traces,
        both[["esp_rmse", "esp_rmse_monopoles"]].to_numpy().ravel(),
        "reference monopoles (kcal/mol/e)",
        "this model (kcal/mol/e)",
    )
