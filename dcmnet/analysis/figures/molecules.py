"""Pictures of single molecules and of batches (Matplotlib)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import ase.data
import ase.data.colors
import numpy as np
import xarray as xr
from jaxtyping import Bool, Float, Int
from matplotlib.cm import ScalarMappable
from matplotlib.colors import CenteredNorm, ListedColormap, Normalize
from matplotlib.figure import Figure
from mpl_toolkits.mplot3d.axes3d import Axes3D

from dcmnet.analysis.examples import Example, error_range
from dcmnet.analysis.figures.geometry import (
    bonds,
    from_above,
    innermost_shell,
    without_padding,
)
from dcmnet.analysis.figures.style import DIVERGING, MODEL_COLOUR, new_axes
from pipeline.loader import MoleculeBatch
from store_schema.names import ATOM
from store_schema.units import HARTREE_IN_KCAL_PER_MOL

# Area in points^2 of a charge of 1 e, and of an atom of radius 1 Å.
_CHARGE_AREA, _ATOM_AREA = 500.0, 500.0


def surface_figure(molecule: xr.Dataset, predicted: xr.DataArray | None = None) -> Figure:
    """Draws the ESP on the grid points nearest to a molecule, seen from above its plane.

    Args:
        molecule: One molecule of a store, ``molecules.isel(molecule=0)``.
        predicted: ESP at its grid points, hartree/e; drawn next to the reference, on the
            same scale, with the difference on a scale of its own.
    """
    molecule = without_padding(molecule)
    atoms, points, shown = _upper_surface(molecule)
    reference = molecule["esp"].values[shown] * HARTREE_IN_KCAL_PER_MOL
    panels = [("reference ESP", reference, _scale(reference))]
    if predicted is not None:
        values = predicted.values[: len(points)][shown] * HARTREE_IN_KCAL_PER_MOL
        common, error = _scale(np.concatenate([reference, values])), values - reference
        panels = [
            ("reference ESP", reference, common),
            ("predicted ESP", values, common),
            ("predicted − reference", error, _scale(error)),
        ]
    figure = Figure(figsize=(4.4 * len(panels), 4.0), layout="constrained", dpi=150)
    for ax, (title, values, colours) in zip(
        np.atleast_1d(figure.subplots(1, len(panels))), panels, strict=True
    ):
        _draw_surface(ax, molecule, atoms, points[shown], values, colours)
        ax.set_title(title, fontsize=11)
        figure.colorbar(
            colours, ax=ax, label="kcal/mol/e", orientation="horizontal", shrink=0.7, aspect=30
        )
    return figure


def charges_figure(
    molecule: xr.Dataset,
    charges: Float[np.ndarray, "A D"],
    charge_positions: Float[np.ndarray, "A D 3"],
) -> Figure:
    """Draws the distributed charges of a molecule: red negative, blue positive, area for size.

    Args:
        molecule: One molecule of a store.
        charges: e; as ``TrainedModel.predict`` returns them, or with a store's padding.
        charge_positions: angstrom.
    """
    figure = Figure(figsize=(6.4, 4.6), layout="constrained", dpi=150)
    ax = figure.add_subplot(projection="3d")
    limits = _draw_charges(ax, without_padding(molecule), charges, charge_positions)
    figure.colorbar(ScalarMappable(limits, DIVERGING), ax=ax, label="charge (e)", shrink=0.7)
    return figure


def examples_figure(examples: Mapping[str, Example]) -> Figure:
    """Draws molecules in columns: their distributed charges, and below the error of the ESP.

    Args:
        examples: By what they are examples of: ``best``, ``median``, ``worst``; all errors
            are drawn on one scale.
    """
    figure = Figure(figsize=(4.0 * len(examples), 6.4), layout="constrained", dpi=150)
    colours = ScalarMappable(CenteredNorm(halfrange=error_range(examples.values())), DIVERGING)
    surfaces = []
    for column, (rank, example) in enumerate(examples.items(), start=1):
        molecule = without_padding(example.molecule)
        charges = figure.add_subplot(2, len(examples), column)
        _draw_charges(charges, molecule, example.charges, example.charge_positions)
        charges.margins(0.1)
        title = f"{rank}: {example.name}\n{example.esp_rmse:.2f} kcal/mol/e"
        charges.set_title(title, fontsize=11, parse_math=False)  # a name may have a $ in it
        surface = figure.add_subplot(2, len(examples), len(examples) + column)
        atoms, points, shown = _upper_surface(molecule)
        _draw_surface(surface, molecule, atoms, points[shown], example.error[shown], colours)
        surfaces.append(surface)
    figure.colorbar(
        colours,
        ax=surfaces,
        label="predicted − reference ESP (kcal/mol/e)",
        orientation="horizontal",
        shrink=0.4,
        aspect=40,
    )
    return figure


def batch_figure(batch: MoleculeBatch) -> Figure:
    """Draws which entries of a batch are real and which are padding, one molecule per row."""
    figure, axes = new_axes(columns=2, height=3.4)
    colours = ListedColormap(["#e8ebf0", MODEL_COLOUR])
    masks = {"atom": batch.atom_mask, "grid point": batch.grid_mask}
    for ax, (name, mask) in zip(axes, masks.items(), strict=True):
        ax.imshow(mask, cmap=colours, norm=Normalize(0, 1), aspect="auto", interpolation="nearest")
        ax.grid(False)
        ax.set_title(f"{mask.shape[1]:,} {name}s a row, {mask.mean():.0%} real", fontsize=11)
        ax.set_xlabel(name)
        ax.set_ylabel("molecule of the batch")
    return figure


def _scale(values: Float[np.ndarray, " G"]) -> ScalarMappable:
    # Around zero where both signs occur; an ion's potential has one sign and its own range.
    low, high = np.quantile(values, (0.01, 0.99))
    if low < 0 < high:
        return ScalarMappable(CenteredNorm(halfrange=max(-low, high)), DIVERGING)
    return ScalarMappable(Normalize(low, high), "Reds_r" if high <= 0 else "Blues")


def _upper_surface(
    molecule: xr.Dataset,
) -> tuple[Float[np.ndarray, "A 3"], Float[np.ndarray, "G 3"], Bool[np.ndarray, " G"]]:
    """Returns atoms and grid points from above, and which points are nearest on this side."""
    atoms, points = from_above(molecule["positions"].values, molecule["vdw_surface"].values)
    shown = innermost_shell(molecule["atomic_numbers"].values, atoms, points)
    return atoms, points, shown & (points[:, 2] > atoms[:, 2].mean())


def _draw_surface(  # noqa: PLR0917
    ax: Any,
    molecule: xr.Dataset,
    atoms: Float[np.ndarray, "A 3"],
    points: Float[np.ndarray, "P 3"],
    values: Float[np.ndarray, " P"],
    colours: ScalarMappable,
) -> None:
    ax.tripcolor(*points[:, :2].T, values, shading="gouraud", cmap=colours.cmap, norm=colours.norm)
    _draw_atoms(ax, molecule, atoms[:, :2], alpha=0.6)
    ax.set_aspect("equal")
    ax.set_axis_off()


def _draw_charges(
    ax: Any,
    molecule: xr.Dataset,
    charges: Float[np.ndarray, "N D"],
    charge_positions: Float[np.ndarray, "N D 3"],
) -> CenteredNorm:
    """Draws atoms and charges into plane or spatial axes; returns what the colours mean."""
    n_atoms = molecule.sizes[ATOM]
    values = charges[:n_atoms].ravel()
    atoms, places = from_above(
        molecule["positions"].values, charge_positions[:n_atoms].reshape(-1, 3)
    )
    spatial = isinstance(ax, Axes3D)
    if spatial:
        _frame(ax, np.concatenate([atoms, places]))
    else:
        ax.set_aspect("equal", adjustable="datalim")
        ax.set_axis_off()
    shown = slice(3 if spatial else 2)
    _draw_atoms(ax, molecule, atoms[:, shown], alpha=0.4)
    limits = CenteredNorm(halfrange=float(np.abs(values).max()))
    ax.scatter(
        *places[:, shown].T,
        c=values,
        s=np.clip(_CHARGE_AREA * np.abs(values), 10.0, None),
        cmap=DIVERGING,
        norm=limits,
        edgecolors="#333333",
        linewidths=0.5,
        **({"depthshade": False} if spatial else {"zorder": 4}),
    )
    return limits


def _frame(ax: Axes3D, points: Float[np.ndarray, "N 3"]) -> None:
    centre, half = (points.max(axis=0) + points.min(axis=0)) / 2, np.ptp(points, axis=0) / 2
    half = np.maximum(half, 0.3 * half.max())  # flat molecules have depth, too
    for axis, c, h in zip("xyz", centre, half, strict=True):
        ax.set(**{f"{axis}lim": (c - h, c + h)})
    ax.set_box_aspect(half, zoom=1.1)
    ax.set_axis_off()
    ax.view_init(elev=50, azim=-80)


def _draw_atoms(
    ax: Any, molecule: xr.Dataset, positions: Float[np.ndarray, "A k"], alpha: float
) -> None:
    """Draws atoms and bonds into plane or spatial axes, whose signatures differ."""
    numbers: Int[np.ndarray, " A"] = molecule["atomic_numbers"].values
    for pair in bonds(numbers, molecule["positions"].values):
        ax.plot(*positions[pair].T, color="#555555", linewidth=2.0, alpha=alpha)
    ax.scatter(
        *positions.T,
        s=_ATOM_AREA * ase.data.covalent_radii[numbers] ** 2,
        c=ase.data.colors.jmol_colors[numbers],
        edgecolors="#333333",
        linewidths=0.6,
        alpha=alpha,
        **({"depthshade": False} if positions.shape[1] == 3 else {"zorder": 3}),
    )
