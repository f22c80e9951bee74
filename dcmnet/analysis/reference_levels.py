"""Reference levels for the model: what charges that sit on the atoms can reach.

The ESP of the stored monopoles, and that of the charges on the atoms which fit each
molecule's ESP best under its total charge (`pipeline.chemistry.fitted_charges`). No model of
one charge per atom, at the nucleus, has a smaller RMSE than the latter.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from dcmnet.analysis.grouping import NOWHERE, SHELLS, shell_of
from dcmnet.model.electrostatics import inverse_distances
from pipeline.chemistry.fitted_charges import solve_charges
from pipeline.chemistry.radii import VDW_RADII
from pipeline.loader import MoleculeBatch
from store_schema.units import BOHR_IN_ANGSTROM, HARTREE_IN_KCAL_PER_MOL

# Regular where charges cannot be distinguished, and without effect on the fit elsewhere.
_RIDGE = 1e-10


class GridLevels(NamedTuple):
    """What the levels come to on the grid, and where its points lie.

    Arrays are on the device or on the host.

    Attributes:
        fitted: Charges on the atoms fitted to the ESP, e; 0 where there is no ESP.
        esp: The reference and, behind it, the ESP of each of ``LEVELS``, kcal/mol/e; 0 at points
            that do not count.
        place: Place of each point (`grouping`), ``NOWHERE`` for one that does not count.
    """

    fitted: Float[Any, "B A"]
    esp: Float[Any, "column B G"]
    place: Int[Any, "B G"]


def grid_levels(batch: MoleculeBatch, potential: Float[Array, "B G"]) -> GridLevels:
    """Fits charges to the ESP of each molecule and evaluates the levels.

    Args:
        batch: The batch.
        potential: ESP that the model predicts, hartree/e.

    Returns:
        Arrays on the device, which may still be under way.
    """
    with jax.enable_x64(True):  # for the normal equations; all else is float32
        return _grid_levels(batch, potential)


@jax.jit
def _grid_levels(batch: MoleculeBatch, potential: Float[Array, "B G"]) -> GridLevels:
    points = batch.grid_mask & (batch.has_esp & batch.molecule_mask)[:, None]
    fitted = solve_charges(
        *_normal_equations(batch, points),
        jnp.asarray(batch.atom_mask),
        ridge=_RIDGE,
        total=jnp.asarray(batch.total_charge),
        known=jnp.asarray(batch.has_total_charge),
    )
    fitted *= jnp.any(points, axis=1)[:, None]
    *of_charges, place = _from_atoms(
        batch, jnp.asarray(batch.monopoles), fitted.astype(jnp.float32)
    )
    levels = jnp.stack([batch.esp, potential, *of_charges])  # in the order of LEVELS
    return GridLevels(
        fitted,
        jnp.where(points, levels * np.float32(HARTREE_IN_KCAL_PER_MOL), 0.0),
        jnp.where(points, place, np.int16(NOWHERE)),
    )


def _from_atoms(
    batch: MoleculeBatch, *charges: Float[Array, "B A"]
) -> tuple[Float[Array, "B G"], Float[Array, "B G"], Int[Array, "B G"]]:
    """Returns the ESP of two sets of charges on the atoms, and the place of each point.

    Atom by atom over points that lie side by side, as in ``electrostatics.esp``.
    """
    numbers = jnp.asarray(batch.atomic_numbers)
    radii = jnp.asarray(VDW_RADII, jnp.float32)[numbers]
    atoms = jnp.asarray(batch.positions), radii, numbers.astype(jnp.int16), *charges
    grid = jnp.asarray(batch.vdw_surface)

    def add(seen: list[Array], atom: list[Array]) -> tuple[list[Array], None]:
        closest, element, *potentials = seen
        position, radius, number, *charges = atom
        inverse = inverse_distances(position[:, None], grid)[:, 0]
        closeness = radius[:, None] * inverse  # 1 at the atom's radius, 0 at padding
        element = jnp.where(closeness > closest, number[:, None], element)
        added = [v + q[:, None] * inverse for v, q in zip(potentials, charges, strict=True)]
        return [jnp.maximum(closeness, closest), element, *added], None

    zero = jnp.zeros_like(grid[:, :, 0])
    each = [jnp.moveaxis(of_atoms, 1, 0) for of_atoms in atoms]
    nothing = [zero, zero.astype(jnp.int16), zero, zero]
    (closest, element, first, second), _ = jax.lax.scan(add, nothing, each, unroll=8)
    place = element * np.int16(len(SHELLS)) + shell_of(1.0 / closest)
    return BOHR_IN_ANGSTROM * first, BOHR_IN_ANGSTROM * second, place


def _normal_equations(
    batch: MoleculeBatch, points: Bool[Array, "B G"]
) -> tuple[Float[Array, "B A A"], Float[Array, "B A"]]:
    """Returns T'T and T'V over the points, summed in float64."""
    inverse = inverse_distances(jnp.asarray(batch.positions), jnp.asarray(batch.vdw_surface))
    valid = batch.atom_mask[:, :, None] & points[:, None, :]
    potentials = jnp.where(valid, BOHR_IN_ANGSTROM * inverse, 0.0)

    def of_molecule(given: tuple[Float[Array, "A G"], Float[Array, " G"]]) -> tuple[Array, Array]:
        wide, esp = (array.astype(jnp.float64) for array in given)
        return wide @ wide.T, wide @ esp

    # One by one they stay in a core's cache.
    return jax.lax.map(of_molecule, (potentials, jnp.where(points, batch.esp, 0.0)))
