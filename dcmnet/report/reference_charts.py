"""Charts of the ladder of references, and of how sure an ensemble is."""

from __future__ import annotations

import html
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from dcmnet.analysis.figures.calibration import calibration_figure
from dcmnet.analysis.figures.ladder import ladder_figure, rungs_of
from dcmnet.analysis.figures.style import MODEL_COLOUR
from dcmnet.analysis.statistics import EnsembleStatistics
from dcmnet.report.panel import MAX_MOLECULES, Panel, chart, logarithmic, on_diagonal


def ladder_panel(table: pd.DataFrame, n_dcm: int) -> Panel:
    """Returns each molecule's error by level of model, multipoles on the atoms among them."""
    common, rungs = rungs_of(table, n_dcm)
    boxes: list[Any] = [
        go.Box(
            x=common[rung.column].to_numpy(np.float32),
            name=rung.label,
            boxmean=True,
            boxpoints="all",
            jitter=0.6,
            pointpos=0,
            marker={"color": rung.colour, "size": 4, "opacity": 0.5},
            line={"color": rung.colour, "width": 1.5},
            text=[html.escape(str(name)) for name in common["molecule_id"]],
            hovertemplate="%{text}: %{x:.2f} kcal/mol/e<extra>" + rung.label + "</extra>",
        )
        for rung in rungs
    ]
    values = common[[rung.column for rung in rungs]].to_numpy()
    ends = max(float(values.min()), 1e-3), float(values.max())
    drawn = chart(
        boxes,
        {"title": "ESP RMSE per molecule (kcal/mol/e)", **logarithmic(*ends)},
        {"title": "level of model"},
        showlegend=False,
    )
    means = "; ".join(f"{rung.label} {common[rung.column].mean():.2f}" for rung in rungs)
    return Panel(
        name="ladder",
        charts=[("ESP RMSE by level of model", drawn)],
        still=ladder_figure(table, n_dcm),
        alt=f"Boxes of the ESP RMSE by level of model. Means in kcal/mol/e: {means}.",
        caption=f"ESP RMSE of {len(common):,} molecules, spread evenly over those analysed, on a "
        "logarithmic axis; box: quartiles and median, dashed: mean and standard deviation. "
        "Multipoles on the atoms were fitted to each molecule’s own ESP by least squares, with "
        "the right total charge. They have seen the answer; the network has not.",
        columns=1,
    )


def calibration_panel(table: pd.DataFrame, ensemble: EnsembleStatistics) -> Panel:
    """Returns actual against expected errors, of molecules and of grid points."""
    both = table.dropna(subset=["esp_uncertainty", "esp_rmse"])
    every = -(-len(both) // MAX_MOLECULES) or 1
    some, binned = both.iloc[::every], ensemble.points
    molecules = _against(
        some["esp_uncertainty"].to_numpy(np.float32),
        some["esp_rmse"].to_numpy(np.float32),
        [html.escape(str(name)) for name in some["molecule_id"]],
        mode="markers",
    )
    points = _against(
        np.array(binned.expected, np.float32),
        np.array(binned.actual, np.float32),
        [f"{count:,} points" for count in binned.count],
        mode="lines+markers",
    )
    thinned = f" Every {every}th molecule is drawn." if every > 1 else ""
    measured = ensemble.calibration.in_words if ensemble.calibration else ""
    return Panel(
        name="calibration",
        charts=[("Per molecule", molecules), ("By expected error of a grid point", points)],
        still=calibration_figure(table, ensemble),
        alt=f"Actual errors compared with expected ones. {measured}",
        caption="Actual error of the ESP against the one that the ensemble expects, on logarithmic "
        "axes. On the dashed line it is right; above, it was too sure. Points are taken together "
        f"by their expected error, as root mean squares.{thinned}",
    )


def _against(
    expected: np.ndarray, actual: np.ndarray, labels: list[str], *, mode: str
) -> go.Figure:
    drawn = go.Scatter(
        x=expected,
        y=actual,
        mode=mode,
        marker={"color": MODEL_COLOUR, "size": 8, "opacity": 0.75},
        text=labels,
        hovertemplate="%{text}: %{y:.2f}, expected %{x:.2f} kcal/mol/e<extra></extra>",
    )
    values = np.concatenate([expected, actual])
    titles = "expected error (kcal/mol/e)", "actual error (kcal/mol/e)"
    return on_diagonal([drawn], values, *titles, showlegend=False)
