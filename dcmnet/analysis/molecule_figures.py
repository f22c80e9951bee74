"""Pictures of single molecules and of batches (Matplotlib)."""

from __future__ import annotations

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

from dcmnet.analysis.figures import MODEL_COLOUR, new_axes
from pipeline.loader import MoleculeBatch
from store_schema.names import ATOM, GRID_POINT
from store_schema.units import HARTREE_IN_KCAL_PER_MOL

# Red where it attracts a positive charge, blue where it repels one.
_POTENTIAL = "RdBu"
# Atoms closer than this times the sum of their covalent radii are drawn as bonded.
_BOND_TOLERANCE = 1.2
# Area in points^2 of a charge of 1 e, and of an atom of radius 1 Å.
_CHARGE_AREA, _ATOM_AREA = 500.0, 500.0
# Share of the grid points that make up its innermost shell, roughly, for a picture.
_SHELL = 0.35


def surface_figure(molecule: xr.Dataset, predicted: xr.DataArray | None = None) -> Figure:
    """Draws the ESP on the grid points nearest to a molecule, seen from above its plane.

    Args:
        molecule: One molecule of a store, ``molecules.isel(molecule=0)``.
        predicted: ESP at its grid points, hartree/e; drawn beside the reference, on the
            same scale, with the difference on a scale of its own.
    """
    molecule = _without_padding(molecule)
    atoms, points = _from_above(molecule["positions"].values, molecule["vdw_surface"].values)
    shown = _nearest(molecule) & (points[:, 2] > atoms[:, 2].mean())
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
        ax.tripcolor(
            *points[shown, :2].T, values, shading="gouraud", cmap=colours.cmap, norm=colours.norm
        )
        _draw_atoms(ax, molecule, atoms[:, :2], alpha=0.6)
        ax.set_aspect("equal")
        ax.set_axis_off()
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
    molecule = _without_padding(molecule)
    n_atoms = molecule.sizes[ATOM]
    values = charges[:n_atoms].ravel()
    atoms, places = _from_above(
        molecule["positions"].values, charge_positions[:n_atoms].reshape(-1, 3)
    )
    figure = Figure(figsize=(6.4, 4.6), layout="constrained", dpi=150)
    ax = _axes_around(figure, np.concatenate([atoms, places]))
    _draw_atoms(ax, molecule, atoms, alpha=0.4)
    limits = CenteredNorm(halfrange=float(np.abs(values).max()))
    ax.scatter(
        *places.T,
        c=values,
        s=np.clip(_CHARGE_AREA * np.abs(values), 10.0, None),
        cmap=_POTENTIAL,
        norm=limits,
        edgecolors="#333333",
        linewidths=0.5,
        depthshade=False,
    )
    figure.colorbar(ScalarMappable(limits, _POTENTIAL), ax=ax, label="charge (e)", shrink=0.7)
    return figure


def batch_figure(batch: MoleculeBatch) -> Figure:
    """Draws which entries of a batch are real and which are padding, a molecule a row."""
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


def _without_padding(molecule: xr.Dataset) -> xr.Dataset:
    counts = {ATOM: "n_atoms", GRID_POINT: "n_grid"}
    return molecule.isel(
        {dim: slice(int(molecule[count])) for dim, count in counts.items() if dim in molecule.dims}
    )


def _from_above(
    atoms: Float[np.ndarray, "A 3"], points: Float[np.ndarray, "N 3"]
) -> tuple[Float[np.ndarray, "A 3"], Float[np.ndarray, "N 3"]]:
    """Turns both into the principal axes of the atoms: longest first, height last."""
    centre = atoms.mean(axis=0)
    _, _, axes = np.linalg.svd(atoms - centre)
    axes[2] *= np.sign(np.linalg.det(axes))  # a rotation: no molecule becomes its mirror image
    return (atoms - centre) @ axes.T, (points - centre) @ axes.T


def _nearest(molecule: xr.Dataset) -> Bool[np.ndarray, " G"]:
    # In units of each atom's van der Waals radius, as such grids are made.
    radii = ase.data.vdw_radii[molecule["atomic_numbers"].values]
    separation = molecule["vdw_surface"].values[:, None] - molecule["positions"].values
    scaled = (np.linalg.norm(separation, axis=-1) / radii).min(axis=1)
    return np.asarray(scaled <= np.quantile(scaled, _SHELL))


def _scale(values: Float[np.ndarray, " G"]) -> ScalarMappable:
    # Around zero where both signs occur; an ion's potential has one sign and its own range.
    low, high = np.quantile(values, (0.01, 0.99))
    if low < 0 < high:
        return ScalarMappable(CenteredNorm(halfrange=max(-low, high)), _POTENTIAL)
    return ScalarMappable(Normalize(low, high), "Reds_r" if high <= 0 else "Blues")


def _axes_around(figure: Figure, points: Float[np.ndarray, "N 3"]) -> Axes3D:
    ax: Axes3D = figure.add_subplot(projection="3d")
    centre, half = (points.max(axis=0) + points.min(axis=0)) / 2, np.ptp(points, axis=0) / 2
    half = np.maximum(half, 0.3 * half.max())  # flat molecules have depth, too
    for axis, c, h in zip("xyz", centre, half, strict=True):
        ax.set(**{f"{axis}lim": (c - h, c + h)})
    ax.set_box_aspect(half, zoom=1.1)
    ax.set_axis_off()
    ax.view_init(elev=50, azim=-80)
    return ax


def _draw_atoms(
    ax: Any, molecule: xr.Dataset, positions: Float[np.ndarray, "A k"], alpha: float
) -> None:
    """Draws atoms and bonds into plane or spatial axes, whose signatures differ."""
    numbers: Int[np.ndarray, " A"] = molecule["atomic_numbers"].values
    radii = ase.data.covalent_radii[numbers]
    separation = molecule["positions"].values[:, None] - molecule["positions"].values
    distance = np.linalg.norm(separation, axis=-1)
    bonded = np.triu(distance < _BOND_TOLERANCE * (radii[:, None] + radii), k=1)
    for pair in np.argwhere(bonded):
        ax.plot(*positions[pair].T, color="#555555", linewidth=2.0, alpha=alpha)
    ax.scatter(
        *positions.T,
        s=_ATOM_AREA * radii**2,
        c=ase.data.colors.jmol_colors[numbers],
        edgecolors="#333333",
        linewidths=0.6,
        alpha=alpha,
        **({"depthshade": False} if positions.shape[1] == 3 else {"zorder": 3}),
    )
