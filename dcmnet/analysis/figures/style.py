"""How figures look: colours that the colour-blind can distinguish too, and plain axes."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import FormatStrFormatter, LogLocator, MaxNLocator, NullFormatter

MODEL_COLOUR = "#2b6cb0"
MONOPOLE_COLOUR = "#dd8a1f"
FITTED_COLOUR = "#748091"
TRAIN_COLOUR = "#8a94a6"
LINE_COLOUR = "#444444"
# Levels of an analysis (``dcmnet.analysis.statistics``).
LEVEL_COLOURS = {"model": MODEL_COLOUR, "monopoles": MONOPOLE_COLOUR, "fitted": FITTED_COLOUR}
LEVEL_LABELS = {
    "model": "distributed charges",
    "monopoles": "reference monopoles",
    "fitted": "charges fitted to each ESP",
}
# Red is negative, as in an ESP.
CHARGE_COLOURS = {-1: "#c0392b", 0: "#6b7585", 1: "#2b6cb0"}
# Red where it attracts a positive charge, blue where it repels one.
DIVERGING = "RdBu"
# Blues without its white end, which would hide single points.
DENSITY = LinearSegmentedColormap.from_list("density", colormaps["Blues"](np.linspace(0.25, 1, 64)))


def new_axes(
    columns: int = 1, width: float = 5.2, height: float = 4.2
) -> tuple[Figure, list[Axes]]:
    """Returns a figure with a row of axes in the house's style."""
    figure = Figure(figsize=(width * columns, height), layout="constrained", dpi=150)
    axes = list(np.atleast_1d(figure.subplots(1, columns)))
    for ax in axes:
        style_axes(ax)
    return figure, axes


def style_axes(ax: Axes) -> None:
    """Applies the common style to axes."""
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(alpha=0.25, linewidth=0.6)
    ax.set_axisbelow(True)


def compare_on_diagonal(ax: Axes, values: Float[np.ndarray, " n"]) -> tuple[float, float]:
    """Makes both axes logarithmic over the same values, with a dashed line where they are equal.

    Args:
        ax: Axes with errors against other errors.
        values: All of them.

    Returns:
        The ends of the axes.
    """
    above = values[values > 0]
    least, most = float(above.min(initial=1.0)), float(above.max(initial=1e-3))
    ends = (max(least, 1e-3) / 1.25, most * 1.25)
    ax.plot(ends, ends, color=LINE_COLOUR, linewidth=0.8, linestyle="--")
    ax.set(xscale="log", yscale="log", xlim=ends, ylim=ends, aspect="equal")
    for axis in (ax.xaxis, ax.yaxis):
        label_plainly(axis)
    return ends


def label_plainly(axis: Axis) -> None:
    """Labels a logarithmic axis 0.5, 1, 2, 5 … rather than by powers of ten.

    A short one, on which those would be one number or two, has equal steps.
    """
    low, high = axis.get_view_interval()
    subs = (1.0, 2.0, 5.0) if high < 300 * low else (1.0,)
    axis.set_major_locator(
        LogLocator(subs=subs) if high > 8 * low else MaxNLocator(5, steps=[1, 2, 5, 10])
    )
    axis.set_major_formatter(FormatStrFormatter("%g"))
    axis.set_minor_formatter(NullFormatter())
