"""Charts of where the error lies, and of the charges themselves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import plotly.graph_objects as go

from dcmnet.analysis.figures.groups import (
    GROUPINGS,
    charges_and_displacements,
    errors_by_group,
    in_order,
    ridges,
)
from dcmnet.analysis.figures.style import LEVEL_COLOURS, LEVEL_LABELS, MODEL_COLOUR
from dcmnet.analysis.statistics import LEVELS, PointGrouping, Spread, Statistics
from dcmnet.report.panel import Panel, chart

_TITLES: Mapping[PointGrouping, str] = {
    "shell": "By distance",
    "nearest_element": "By element",
    "n_atoms": "By size of the molecule",
}


def groups_panel(statistics: Statistics) -> Panel:
    """Returns the error by distance, by element and by size."""
    charts = [
        (_TITLES[grouping], _groups(statistics, grouping, label))
        for grouping, label in GROUPINGS.items()
    ]
    levels = statistics.points["all"]["all"]
    worst = {
        _TITLES[grouping].lower(): statistics.point_table(grouping)["rmse"].astype(float).idxmax()
        for grouping in GROUPINGS
        if statistics.points.get(grouping)
    }
    return Panel(
        name="groups",
        charts=charts,
        keys={LEVEL_LABELS[level]: LEVEL_COLOURS[level] for level in LEVELS if level in levels},
        still=errors_by_group(statistics),
        alt="Errors of the distributed charges and of the reference levels. Those of the "
        "distributed charges are largest "
        + ", ".join(f"{title} at {name}" for title, name in worst.items())
        + ".",
        caption="ESP RMSE over all grid points of a group. Each point belongs to the atom that is "
        "nearest in van der Waals radii. Molecules without reference monopoles are left out of "
        "that level only.",
        columns=3,
    )


def charges_panel(statistics: Statistics) -> Panel:
    """Returns how charges, and their distances from the nuclei, are distributed."""
    every, away = statistics.charges["all"], statistics.displacements["all"]
    end = away.start + away.width * len(away.counts)
    beyond = f" The last bar holds those beyond, up to {away.max:.2f} Å." if away.max > end else ""
    return Panel(
        name="charges",
        charts=[
            ("Charges", _ridges(statistics.charges, "distributed charge (e)")),
            (
                "Displacements",
                _ridges(
                    statistics.displacements, "distance from the nucleus (Å)", rangemode="tozero"
                ),
            ),
        ],
        still=charges_and_displacements(statistics),
        alt=f"Histograms by element. Charges run from {every.min:.2f} to {every.max:.2f} e; their "
        f"distances from the nuclei are {away.mean:.2f} Å on average, {away.max:.2f} Å at most.",
        caption=f"Distribution of the {every.count:,} distributed charges by element, and of their "
        f"distances from the nuclei. Each row is scaled to its own highest bar.{beyond}",
    )


def _groups(statistics: Statistics, grouping: PointGrouping, label: str) -> go.Figure:
    order = in_order(statistics.points.get(grouping, {}))
    traces: list[Any] = []
    for level in LEVELS:
        table = statistics.point_table(grouping, level)
        if table.empty:
            continue
        table = table.reindex([name for name in order if name in table.index])
        traces.append(
            go.Scatter(
                x=[str(name).replace("-", "–") for name in table.index],
                y=table["rmse"].to_numpy(np.float32),
                mode="markers" if grouping == "nearest_element" else "lines+markers",
                marker={"color": LEVEL_COLOURS[level], "size": 8},
                line={"color": LEVEL_COLOURS[level], "width": 2},
                name=LEVEL_LABELS[level],
                customdata=table["count"].to_numpy(np.int64).tolist(),
                hovertemplate="%{x}: %{y:.2f} kcal/mol/e, %{customdata:,} points"
                "<extra>" + LEVEL_LABELS[level] + "</extra>",
            )
        )
    return chart(
        traces,
        {
            "title": label,
            "type": "category",
            "categoryorder": "array",
            "categoryarray": [name.replace("-", "–") for name in order],
        },
        {"title": "ESP RMSE (kcal/mol/e)", "rangemode": "tozero"},
        showlegend=False,
    )


def _ridges(spreads: Mapping[str, Spread], label: str, **axis: Any) -> go.Figure:
    found = ridges(spreads)
    traces = []
    for row, (element, (edges, heights)) in enumerate(reversed(found.items())):
        base = np.full(2, row, np.float32)
        ground = go.Scatter(
            x=edges[[0, -1]].astype(np.float32),
            y=base,
            mode="lines",
            line={"width": 0.5, "color": MODEL_COLOUR},
            hoverinfo="skip",
        )
        count = spreads[element].count
        traces += [
            ground,
            go.Scatter(
                x=edges.astype(np.float32),
                y=(row + 0.85 * np.append(heights, 0.0)).astype(np.float32),
                mode="lines",
                line={"width": 1.4, "shape": "hv", "color": MODEL_COLOUR},
                fill="tonexty",
                fillcolor="rgba(43, 108, 176, 0.3)",
                hovertemplate=f"%{{x:.2f}}<extra>{element}, {count:,} charges</extra>",
            ),
        ]
    return chart(
        traces,
        {"title": label, **axis},
        {
            "title": "element",
            "tickmode": "array",
            "tickvals": list(range(len(found))),
            "ticktext": list(reversed(found)),
            "range": [-0.1, len(found)],
        },
        showlegend=False,
    )
