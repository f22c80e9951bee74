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
from jaxtyping import Float
from markupsafe import Markup
from matplotlib.figure import Figure

from dcmnet.analysis.figures.style import LINE_COLOUR

# Molecules drawn at most; more would only make the page heavy.
MAX_MOLECULES = 3000
DASHED = {"color": LINE_COLOUR, "width": 1, "dash": "dash"}


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


def on_diagonal(
    traces: list[Any],
    values: Float[np.ndarray, " n"],
    x: str,
    y: str,
    *,
    showlegend: bool = True,
) -> go.Figure:
    """Returns errors against other errors, on the same logarithmic axes with a dashed diagonal.

    Args:
        traces: The errors.
        values: All of them.
        x: Title of the axis of x.
        y: That of the axis of y.
        showlegend: Whether the traces are named.
    """
    above = values[values > 0]
    least, most = float(above.min(initial=1.0)), float(above.max(initial=1e-3))
    ends = max(least, 1e-3) / 1.25, most * 1.25
    axis = {**logarithmic(*ends), "range": [float(np.log10(end)) for end in ends]}
    diagonal = go.Scatter(
        x=ends, y=ends, mode="lines", line=DASHED, hoverinfo="skip", showlegend=False
    )
    layout = {} if showlegend else {"showlegend": False}
    return chart([diagonal, *traces], {"title": x, **axis}, {"title": y, **axis}, **layout)


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
