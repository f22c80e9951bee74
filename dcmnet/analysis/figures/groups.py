"""Figures of where the error lies, and of the charges themselves (Matplotlib)."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping

import numpy as np
from ase.data import atomic_numbers
from jaxtyping import Float, Int
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dcmnet.analysis.figures.style import (
    LEVEL_COLOURS,
    LEVEL_LABELS,
    LINE_COLOUR,
    MODEL_COLOUR,
    new_axes,
)
from dcmnet.analysis.statistics import LEVELS, PointGrouping, Spread, Statistics

# What grid points are grouped by, as an axis names it.
GROUPINGS: Mapping[PointGrouping, str] = {
    "shell": "distance (van der Waals radii)",
    "nearest_element": "element of the nearest atom",
    "n_atoms": "atoms of the molecule",
}
# Bins at most: fine enough for shapes, coarse enough for few charges.
_BINS = 70


def errors_by_group(statistics: Statistics) -> Figure:
    """Draws the ESP RMSE over points by distance, by element and by size."""
    figure, axes = new_axes(columns=len(GROUPINGS), width=4.4, height=3.6)
    for ax, (grouping, label) in zip(axes, GROUPINGS.items(), strict=True):
        labels = in_order(statistics.points.get(grouping, {}))
        for level in LEVELS:
            table = statistics.point_table(grouping, level)
            if table.empty:
                continue
            shown = [name for name in labels if name in table.index]
            ax.plot(
                [labels.index(name) for name in shown],
                table["rmse"][shown],
                "o" if grouping == "nearest_element" else "o-",
                color=LEVEL_COLOURS[level],
                markersize=5,
                linewidth=1.4,
                label=LEVEL_LABELS[level],
            )
        ax.set_xticks(range(len(labels)), labels, rotation=30 if len(labels) > 7 else 0)
        ax.set_ylim(bottom=0.0)
        ax.set_xlabel(label)
        ax.set_ylabel("ESP RMSE (kcal/mol/e)")
    axes[0].legend(frameon=False)
    return figure


def in_order(labels: Iterable[str]) -> list[str]:
    """Returns labels of groups in the order one expects; a store keeps them by the alphabet.

    Elements come by atomic number, ranges and charges by their first number, what is
    unknown last.
    """

    def place(label: str) -> tuple[float, str]:
        if label in atomic_numbers:
            return float(atomic_numbers[label]), label
        number = re.match(r"[<>]?([+-]?\d+(?:\.\d+)?)", label)
        if number is None:
            return math.inf, label
        # What is below a bound comes before what begins there, what is above it after.
        return float(number[1]) + {"<": -1e-6, ">": 1e-6}.get(label[0], 0.0), label

    return sorted(labels, key=place)


def charges_and_displacements(statistics: Statistics) -> Figure:
    """Draws how the charges, and their distances from the nuclei, are distributed by element."""
    rows = max(len(statistics.charges) - 1, 1)
    figure, (charges, displacements) = new_axes(columns=2, height=1.4 + 0.45 * rows)
    _draw_ridges(charges, statistics.charges, "distributed charge (e)")
    charges.axvline(0.0, color=LINE_COLOUR, linewidth=0.8, linestyle="--")
    _draw_ridges(
        displacements, statistics.displacements, "distance of a charge from its nucleus (Å)"
    )
    displacements.set_xlim(left=0.0)
    return figure


def ridges(
    spreads: Mapping[str, Spread],
) -> dict[str, tuple[Float[np.ndarray, " edge"], Float[np.ndarray, " bin"]]]:
    """Returns a histogram of each element, on bins that all of them share.

    Returns:
        By element, in the order of their numbers of charges, edges of the bins and counts
        relative to the fullest bin of that element.
    """
    elements = {name: spread for name, spread in spreads.items() if name != "all" and spread.count}
    ordered = sorted(elements, key=lambda name: -elements[name].count)
    if not ordered:
        return {}
    low = min(spread.start for spread in elements.values())
    width = max(spread.width for spread in elements.values())
    last = max(_bin_numbers(spread, low, width).max() for spread in elements.values())
    merged = -(-(int(last) + 1) // _BINS)  # whole bins, or some would take more than others
    edges = low + width * merged * np.arange(last // merged + 2)
    found = {}
    for name in ordered:
        places = _bin_numbers(elements[name], low, width) // merged
        counts = np.bincount(places, weights=elements[name].counts, minlength=edges.size - 1)
        found[name] = (edges, counts / counts.max())
    return found


def _bin_numbers(spread: Spread, low: float, width: float) -> Int[np.ndarray, " bin"]:
    centres = spread.start + spread.width * (np.arange(len(spread.counts)) + 0.5)
    return np.floor((centres - low) / width).astype(int)


def _draw_ridges(ax: Axes, spreads: Mapping[str, Spread], label: str) -> None:
    found = ridges(spreads)
    for row, (edges, heights) in enumerate(reversed(found.values())):
        ax.stairs(
            row + 0.85 * heights, edges, baseline=row, fill=True, color=MODEL_COLOUR, alpha=0.35
        )
        ax.stairs(row + 0.85 * heights, edges, baseline=row, color=MODEL_COLOUR, linewidth=1.2)
    ax.set_yticks(range(len(found)), list(reversed(found)))
    ax.set_ylabel("element")
    ax.set_xlabel(label)
