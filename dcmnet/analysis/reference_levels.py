"""Reference levels beside the model: what charges that sit on the atoms can reach.

The ESP of the stored monopoles, and that of the charges on the atoms which fit each
molecule's ESP best under its total charge: constrained least squares, as in Singh &
Kollman, J. Comput. Chem. 5 (1984) 129. No model of one charge an atom, at the nucleus,
has a smaller RMSE than the latter.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from dcmnet.electrostatics import inverse_distances
from pipeline.inference.lengths import van_der_waals_radii
from pipeline.loader import MoleculeBatch
from store_schema.units import BOHR_IN_ANGSTROM

# Relative to the mean diagonal: regular where charges cannot be told apart, and without
# effect on the fit elsewhere.
_RIDGE = 1e-10


class GridReference(NamedTuple):
    """What a batch's grid and atoms say without the model; padding is meaningless.

    Attributes:
        fitted: Charges on the atoms fitted to the ESP, e; 0 where there is no ESP.
        esp_fitted: Their ESP, hartree/e.
        esp_monopoles: ESP of the stored monopoles, hartree/e.
        nearest: The atom nearest to each point, in units of its van der Waals radius.
        distance: The distance to it, in that unit.
    """

    fitted: Float[Array, "B A"]
    esp_fitted: Float[Array, "B G"]
    esp_monopoles: Float[Array, "B G"]
    nearest: Int[Array, "B G"]
    distance: Float[Array, "B G"]


def grid_reference(batch: MoleculeBatch) -> GridReference:
    """Fits charges to the ESP of each molecule and evaluates the reference levels.

    Returns:
        Arrays on the device, which may still be under way.
    """
    radii = np.nan_to_num(van_der_waals_radii(batch.atomic_numbers)).astype(np.float32)
    with jax.enable_x64(True):  # for the normal equations; all else is float32
        return _grid_reference(batch, radii)


@jax.jit
def _grid_reference(batch: MoleculeBatch, radii: Float[Array, "B A"]) -> GridReference:
    points = batch.grid_mask & batch.has_esp[:, None]
    inverse = inverse_distances(jnp.asarray(batch.positions), jnp.asarray(batch.vdw_surface))
    potentials = jnp.where(batch.atom_mask[:, :, None], BOHR_IN_ANGSTROM * inverse, 0.0)
    normal = _normal_equations(potentials, jnp.asarray(batch.esp), points)
    fitted = solve_charges(
        normal[:, :-1, :-1],
        normal[:, :-1, -1],
        jnp.asarray(batch.atom_mask),
        jnp.asarray(batch.total_charge),
        jnp.asarray(batch.has_total_charge),
    )
    fitted *= jnp.any(points, axis=1)[:, None]
    esp_fitted, esp_monopoles = (
        jnp.sum(potentials * charges[:, :, None], axis=1)
        for charges in (fitted.astype(jnp.float32), jnp.asarray(batch.monopoles))
    )
    closeness = inverse * radii[:, :, None]  # the radius is 0 at padding
    greatest = jnp.max(closeness, axis=1)
    # The first of the greatest, as argmax has it, which is ten times slower here.
    atoms = jnp.arange(closeness.shape[1], dtype=jnp.int32)[None, :, None]
    is_nearest = closeness == greatest[:, None, :]
    nearest = jnp.min(jnp.where(is_nearest, atoms, closeness.shape[1] - 1), axis=1)
    return GridReference(fitted, esp_fitted, esp_monopoles, nearest, 1.0 / greatest)


def _normal_equations(
    potentials: Float[Array, "B A G"], esp: Float[Array, "B G"], points: Bool[Array, "B G"]
) -> Float[Array, "B A+1 A+1"]:
    """Returns T'T over the points, summed in float64, with T'V as last column."""
    columns = jnp.concatenate([potentials, esp[:, None, :]], axis=1)
    columns = jnp.where(points[:, None, :], columns, 0.0)

    def of_molecule(columns: Float[Array, "C G"]) -> Float[Array, "C C"]:
        wide = columns.astype(jnp.float64)
        return wide @ wide.T

    return jax.lax.map(of_molecule, columns)  # one by one they stay in a core's cache


def solve_charges(
    normal: Float[Array, "B A A"],
    right: Float[Array, "B A"],
    atom_mask: Bool[Array, "B A"],
    total_charge: Float[Array, " B"],
    known: Bool[Array, " B"],
) -> Float[Array, "B A"]:
    """Solves the normal equations of charges on atoms under their exact sum.

    Minimises |V - T q|^2 subject to 1·q = Q: with N = T'T the solution without the
    constraint, q0 = N^-1 T'V, moves along u = N^-1 1, q = q0 + u (Q - 1·q0) / (1·u).

    Args:
        normal: N, float64; rows of padding atoms are 0.
        right: T'V.
        atom_mask: True for atoms.
        total_charge: Q in e.
        known: True where it is known; elsewhere the charges are fitted freely.

    Returns:
        Charges in e, float64, 0 at padding.
    """
    n_atoms = jnp.maximum(atom_mask.sum(axis=1), 1)
    scale = jnp.trace(normal, axis1=1, axis2=2) / n_atoms
    scale = jnp.where(scale > 0, scale, 1.0)
    diagonal = jnp.where(atom_mask, _RIDGE, 1.0) * scale[:, None]
    regular = normal + diagonal[:, :, None] * jnp.eye(normal.shape[1])
    sides = jnp.stack([right, atom_mask * scale[:, None]], axis=-1)
    charges, along = jnp.moveaxis(jnp.linalg.solve(regular, sides), -1, 0)
    for _ in range(2):  # the second round takes away the rounding of the first
        lacking = jnp.where(known, total_charge - charges.sum(axis=1), 0.0)
        charges += along * (lacking / jnp.where(known, along.sum(axis=1), 1.0))[:, None]
    return jnp.where(atom_mask, charges, 0.0)
