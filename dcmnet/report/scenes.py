"""Molecules to turn around: their distributed charges, and the error of the ESP about them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import plotly.graph_objects as go
from ase.data import chemical_symbols, covalent_radii
from ase.data.colors import jmol_colors
from jaxtyping import Float, Int
from matplotlib import colormaps
from matplotlib.colors import to_hex

from dcmnet.analysis.examples import Example, error_range
from dcmnet.analysis.figures.geometry import (
    bonds,
    from_above,
    innermost_shell,
    surface_triangles,
    without_padding,
)
from dcmnet.analysis.figures.molecules import examples_figure
from dcmnet.analysis.figures.style import DIVERGING
from dcmnet.report.panel import ColourScale, Panel

_ATOM_SCALE = 0.36  # of the covalent radius: balls on sticks
_CHARGE_SCALE = 32.0  # diameter in pixels of a charge of 1 e; areas show sizes
_EYE = (0.0, -1.0, 1.7)  # from above, and a little before
_RULER = 2.0  # length in Å of the bar that shows the scale
_LIGHT = {"ambient": 0.7, "diffuse": 0.5, "specular": 0.1, "roughness": 0.8}
# Hardly any shade on the surface: its colours are read.
_EVEN_LIGHT = {"ambient": 0.92, "diffuse": 0.14, "specular": 0.0}
_STOPS = np.linspace(0.0, 1.0, 11)
_COLOURS = [to_hex(colour) for colour in colormaps[DIVERGING](_STOPS)]
_COLOUR_SCALE = [[float(stop), colour] for stop, colour in zip(_STOPS, _COLOURS, strict=True)]


def scenes_panel(examples: Mapping[str, Example]) -> Panel:
    """Returns molecules with their charges, and below with the error of the ESP.

    Args:
        examples: By what they are examples of: ``best``, ``median``, ``worst``.
    """
    limit = error_range(examples.values())
    charts, descriptions = [], []
    for rank, example in examples.items():
        title = f"{rank.capitalize()}: {example.name}"
        descriptions.append(f"{title}, RMSE {example.esp_rmse:.2f} kcal/mol/e")
        # A molecule after the other on a phone, charges above errors on a desk.
        charts.append((title, _charge_scene(example)))
        error = f"Error of its ESP, RMSE {example.esp_rmse:.2f} kcal/mol/e"
        charts.append((error, _error_scene(example, limit)))
    return Panel(
        name="molecules",
        charts=charts,
        still=examples_figure(examples),
        alt="Ball-and-stick models with their distributed charges, and with a surface around "
        "each coloured by the error of the ESP: " + "; ".join(descriptions) + ".",
        caption="Charges: area shows size, blue is positive, red is negative; point at one to "
        "read it. Surface: predicted minus reference ESP on the innermost shell of grid points, "
        "drawn through all of its points, on one colour scale for all molecules (1 % of the "
        "errors lie beyond its ends). Outer shells are not drawn. Bars are "
        f"{_RULER:g} Å long. Drag to turn.",
        is_spatial=True,
        columns=len(examples),
        scale=ColourScale(
            colours=tuple(_COLOURS),
            ticks=(f"−{limit:.3g}", "0", f"+{limit:.3g}"),
            label="predicted − reference ESP (kcal/mol/e)",
        ),
    )


def _charge_scene(example: Example) -> go.Figure:
    molecule = without_padding(example.molecule)
    numbers = molecule["atomic_numbers"].values
    atoms, places = from_above(
        molecule["positions"].values, example.charge_positions.reshape(-1, 3)
    )
    values = example.charges.ravel()
    limit = float(np.abs(values).max()) or 1.0
    x, y, z = places.T.astype(np.float32)
    owners = np.repeat([chemical_symbols[number] for number in numbers], example.charges.shape[1])
    charges = go.Scatter3d(
        x=x,
        y=y,
        z=z,
        mode="markers",
        marker={
            "size": np.clip(_CHARGE_SCALE * np.sqrt(np.abs(values)), 4.0, None).astype(np.float32),
            "color": values.astype(np.float32),
            "cmin": -limit,
            "cmax": limit,
            "colorscale": _COLOUR_SCALE,
            "line": {"color": "#333333", "width": 1},
            "opacity": 1.0,
        },
        text=[f"{value:+.3f} e, of {owner}" for value, owner in zip(values, owners, strict=True)],
        hovertemplate="%{text}<extra></extra>",
    )
    return _scene(
        [*_sticks(numbers, atoms), *_balls(numbers, atoms, 0.45), charges],
        np.concatenate([atoms, places]),
    )


def _error_scene(example: Example, limit: float) -> go.Figure:
    molecule = without_padding(example.molecule)
    numbers = molecule["atomic_numbers"].values
    atoms, points = from_above(molecule["positions"].values, molecule["vdw_surface"].values)
    shown = innermost_shell(numbers, atoms, points)
    triangles = surface_triangles(points[shown], atoms)
    x, y, z = points[shown].T.astype(np.float32)
    common = {
        "x": x,
        "y": y,
        "z": z,
        "hovertemplate": "%{text}<extra></extra>",
        "text": [f"{error:+.2f} kcal/mol/e" for error in example.error[shown]],
    }
    colours = {"cmin": -limit, "cmax": limit, "colorscale": _COLOUR_SCALE, "showscale": False}
    values = example.error[shown].astype(np.float32)
    if triangles.size:
        # From back to front: what is seen through has to be drawn before.
        order = np.argsort(points[shown][triangles].mean(axis=1) @ np.asarray(_EYE))
        i, j, k = triangles[order].T.astype(np.int32)
        surface: Any = go.Mesh3d(
            **common, i=i, j=j, k=k, intensity=values, **colours, opacity=0.7, lighting=_EVEN_LIGHT
        )
    else:
        surface = go.Scatter3d(
            **common, mode="markers", marker={"size": 5, "color": values, **colours}
        )
    return _scene([*_sticks(numbers, atoms), *_balls(numbers, atoms, 1.0), surface], points[shown])


def _balls(
    numbers: Int[np.ndarray, " A"], atoms: Float[np.ndarray, "A 3"], opacity: float
) -> list[Any]:
    """Returns the atoms as one mesh per element."""
    sphere, faces = _sphere()
    traces = []
    for number in np.unique(numbers):
        centres = atoms[numbers == number]
        radius = _ATOM_SCALE * covalent_radii[number]
        vertices = (centres[:, None] + radius * sphere).reshape(-1, 3)
        offsets = len(sphere) * np.arange(len(centres))
        x, y, z = vertices.T.astype(np.float32)
        i, j, k = (faces + offsets[:, None, None]).reshape(-1, 3).T.astype(np.int32)
        traces.append(
            go.Mesh3d(
                x=x,
                y=y,
                z=z,
                i=i,
                j=j,
                k=k,
                color=to_hex(jmol_colors[number]),
                opacity=opacity,
                lighting=_LIGHT,
                name=chemical_symbols[number],
                hoverinfo="name",
            )
        )
    return traces


def _sphere() -> tuple[Float[np.ndarray, "V 3"], Int[np.ndarray, "F 3"]]:
    """Returns points on a unit sphere, by Fibonacci's spiral, and the triangles between them."""
    n = 120
    height = 1 - 2 * (np.arange(n) + 0.5) / n
    angle = np.pi * (3 - np.sqrt(5)) * np.arange(n)
    ring = np.sqrt(1 - height**2)
    points = np.stack([ring * np.cos(angle), ring * np.sin(angle), height], axis=1)
    return points, surface_triangles(points, np.zeros((1, 3)))


def _sticks(numbers: Int[np.ndarray, " A"], atoms: Float[np.ndarray, "A 3"]) -> list[Any]:
    pairs = bonds(numbers, atoms)
    if not len(pairs):
        return []
    ends = np.full((len(pairs), 3, 3), np.nan, np.float32)  # NaN lifts the pen
    ends[:, :2] = atoms[pairs]
    x, y, z = ends.reshape(-1, 3).T
    return [_stroke(x, y, z, width=7)]


def _stroke(x: Any, y: Any, z: Any, width: float) -> Any:
    return go.Scatter3d(
        x=x, y=y, z=z, mode="lines", line={"color": "#8a8f98", "width": width}, hoverinfo="skip"
    )


def _scene(traces: list[Any], extent: Float[np.ndarray, "N 3"]) -> go.Figure:
    """Returns a scene that looks at a cube around a molecule, from above and a little before."""
    low, high = extent.min(axis=0), extent.max(axis=0)
    middle, half = (low + high) / 2, (high - low).max() / 2 + 0.6
    x = middle[0] + _RULER * np.array([-0.5, 0.5], np.float32)
    y, z = np.full(2, low[1] - 0.6, np.float32), np.full(2, middle[2], np.float32)
    axes = {
        f"{name}axis": {"visible": False, "showspikes": False, "range": [c - half, c + half]}
        for name, c in zip("xyz", middle.tolist(), strict=True)
    }
    return go.Figure(
        data=[*traces, _stroke(x, y, z, width=3)],
        layout={
            "template": None,
            "margin": {"l": 0, "r": 0, "t": 0, "b": 0},
            "showlegend": False,
            "scene": {
                **axes,
                "aspectmode": "manual",
                # In an orthographic view this, not the distance of the eye, is the zoom.
                "aspectratio": dict.fromkeys("xyz", 1.95),
                "camera": {
                    "eye": dict(zip("xyz", _EYE, strict=True)),
                    "up": {"x": 0.0, "y": 1.0, "z": 0.0},
                    "projection": {"type": "orthographic"},
                },
                "dragmode": "orbit",
            },
        },
    )
