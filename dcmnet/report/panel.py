"""A figure of the page: charts to touch, a still for print, words for those who see neither."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import plotly.graph_objects as go
from markupsafe import Markup
from matplotlib.figure import Figure


@dataclass(frozen=True)
class Panel:
    """One figure of the page.

    Attributes:
        name: Identifies it on the page.
        charts: Titles and Plotly figures, side by side where there is room.
        still: The same for paper, and for browsers without scripts or WebGL.
        alt: What is to be seen, for those who do not.
        caption: What it is, with its units and what was left out.
        is_spatial: Whether the charts are scenes in space.
        columns: Charts in a row where there is room.
        keys: What the colours of lines mean, where all charts share them.
        scale: What a scale of colours means, where all charts share it.
    """

    name: str
    charts: Sequence[tuple[str, go.Figure]]
    still: Figure
    alt: str
    caption: str
    is_spatial: bool = False
    columns: int = 2
    keys: Mapping[str, str] = field(default_factory=dict)
    scale: ColourScale | None = None

    @property
    def image(self) -> Markup:
        """The still as a data URI."""
        buffer = io.BytesIO()
        self.still.savefig(buffer, format="png", dpi=130)
        return Markup("data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode())


@dataclass(frozen=True)
class ColourScale:
    """A scale of colours, drawn as a bar.

    Attributes:
        colours: From its lower to its upper end, as CSS writes them.
        ticks: Labels, evenly spaced over it.
        label: What it measures, with the unit.
    """

    colours: tuple[str, ...]
    ticks: tuple[str, ...]
    label: str


def chart(
    traces: list[Any], x: Mapping[str, Any], y: Mapping[str, Any], **layout: Any
) -> go.Figure:
    """Returns a plane chart in the page's style; its colours are set by the page's script."""
    axis = {
        "ticks": "outside",
        "ticklen": 4,
        "zeroline": False,
        "automargin": True,
        "title": {"font": {"size": 13}, "standoff": 8},
    }
    has_legend = layout.get("showlegend", True)
    return go.Figure(
        data=traces,
        layout={
            "template": None,
            "margin": {"l": 8, "r": 16, "t": 34 if has_legend else 8, "b": 8},
            "legend": {"orientation": "h", "y": 1.0, "yanchor": "bottom", "x": 0.0},
            "hovermode": "closest",
            "xaxis": _merged(axis, x),
            "yaxis": _merged(axis, y),
            **layout,
        },
    )


def logarithmic(low: float, high: float) -> dict[str, Any]:
    """Returns a logarithmic axis labelled 0.5, 1, 2, 5 … rather than by powers of ten."""
    decades = range(int(np.floor(np.log10(low))), int(np.ceil(np.log10(high))) + 1)
    steps = (1, 2, 5) if high / low < 300 else (1,)
    values = [step * 10.0**decade for decade in decades for step in steps]
    return {
        "type": "log",
        "tickmode": "array",
        "tickvals": values,
        "ticktext": [f"{value:g}" for value in values],
    }


def _merged(axis: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    return {**axis, **own, "title": {**axis["title"], "text": own["title"]}}


def as_script(figure: go.Figure) -> Markup:
    """Returns a figure as JSON that may stand inside a script element."""
    # What ends a script element, or opens a comment in one, needs a '<'.
    text = json.dumps(json.loads(figure.to_json()), separators=(",", ":"))
    return Markup(text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))
