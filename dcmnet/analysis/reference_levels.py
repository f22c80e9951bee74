"""Reference levels beside the model: what charges that sit on the atoms can reach.

The ESP of the stored monopoles, and that of the charges on the atoms which fit each
molecule's ESP best under its total charge: constrained least squares, as in Singh &
Kollman, J. Comput. Chem. 5 (1984) 129. No model of one charge an atom, at the nucleus,
has a smaller RMSE than the latter.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from dcmnet import electrostatics
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
    normal, (esp_monopoles, nearest, closeness) = _grid_sums(batch, radii, points)
    fitted = solve_charges(
        normal[:, :-1, :-1],
        normal[:, :-1, -1],
        jnp.asarray(batch.atom_mask),
        jnp.asarray(batch.total_charge),
        jnp.asarray(batch.has_total_charge),
    )
    fitted *= jnp.any(points, axis=1)[:, None]
    esp_fitted = electrostatics.esp(
        fitted.astype(jnp.float32), jnp.asarray(batch.positions), jnp.asarray(batch.vdw_surface)
    )
    return GridReference(fitted, esp_fitted, esp_monopoles, nearest, 1.0 / closeness)


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


def _grid_sums(
    batch: MoleculeBatch, radii: Float[Array, "B A"], points: Bool[Array, "B G"]
) -> tuple[Float[Array, "B A+1 A+1"], list[Array]]:
    """Goes over the grid in blocks.

    Returns:
        Normal equations, summed in float64, with the ESP as last column; and at each
        point the ESP of the monopoles, the nearest atom, and the inverse of the distance
        to it in its van der Waals radius.
    """
    positions, monopoles = jnp.asarray(batch.positions), jnp.asarray(batch.monopoles)
    atom_mask = jnp.asarray(batch.atom_mask)[:, None, :]

    def of_block(normal: Array, block: tuple[Array, ...]) -> tuple[Array, Any]:
        grid, points, esp = block
        inverse = electrostatics.inverse_distances(grid, positions)
        potentials = jnp.where(atom_mask, BOHR_IN_ANGSTROM * inverse, 0.0)
        closeness = inverse * radii[:, None, :]  # the radius is 0 at padding
        columns = jnp.concatenate([potentials, esp[:, :, None]], axis=-1)
        columns = jnp.where(points[:, :, None], columns, 0.0).astype(jnp.float64)
        normal += jnp.einsum("bgi,bgj->bij", columns, columns)
        of_monopoles = jnp.sum(potentials * monopoles[:, None, :], axis=-1)
        return normal, (of_monopoles, jnp.argmax(closeness, axis=-1), jnp.max(closeness, axis=-1))

    molecules, atoms = batch.atom_mask.shape
    start = jnp.zeros((molecules, atoms + 1, atoms + 1), jnp.float64)
    fields = (jnp.asarray(batch.vdw_surface), points, jnp.asarray(batch.esp))
    blocks = tuple(electrostatics.to_blocks(field) for field in fields)
    normal, of_points = jax.lax.scan(of_block, start, blocks)
    n_points = batch.vdw_surface.shape[1]
    return normal, [electrostatics.from_blocks(values, n_points) for values in of_points]
