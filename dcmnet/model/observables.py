"""What the distributed charges of a batch amount to: ESP, field, monopoles, moments."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.export
import jax.numpy as jnp
from jaxtyping import Array, Float

from dcmnet.model import electrostatics
from pipeline.loader import MoleculeBatch


class Observables(NamedTuple):
    """Predictions of a batch that a reference can be held against.

    Attributes:
        charges: Distributed charges, e.
        displacements: From the nucleus to each charge, angstrom; zero on padding.
        esp: Potential on the grid, hartree/e; meaningless at masked points.
        monopoles: Sum of each atom's charges, e.
        dipole: About the origin, e*angstrom.
        quadrupole: About the origin, e*angstrom^2.
        electric_field: On the grid, hartree/e/bohr; F is 0 where the batch has no reference.
    """

    charges: Float[Array, "B A D"]
    displacements: Float[Array, "B A D 3"]
    esp: Float[Array, "B G"]
    monopoles: Float[Array, "B A"]
    dipole: Float[Array, "B 3"]
    quadrupole: Float[Array, "B 3 3"]
    electric_field: Float[Array, "B F 3"]


jax.export.register_namedtuple_serialization(Observables, serialized_name="dcmnet.Observables")


def observe(
    charges: Float[Array, "B A D"],
    charge_positions: Float[Array, "B A D 3"],
    batch: MoleculeBatch,
) -> Observables:
    """Returns the observables of distributed charges."""
    # Cards would otherwise multiply matrices with ten bits of mantissa.
    with jax.default_matmul_precision("highest"):
        return _observe(charges, charge_positions, batch)


def _observe(
    charges: Float[Array, "B A D"],
    charge_positions: Float[Array, "B A D 3"],
    batch: MoleculeBatch,
) -> Observables:
    molecules = charges.shape[0]
    flat_charges = charges.reshape(molecules, -1)
    flat_positions = charge_positions.reshape(molecules, -1, 3)
    grid = jnp.asarray(batch.vdw_surface)
    field = jnp.zeros(batch.electric_field.shape, charges.dtype)
    if field.shape[1]:
        field = electrostatics.electric_field(flat_charges, flat_positions, grid)
    displacements = charge_positions - batch.positions[:, :, None, :]
    return Observables(
        charges=charges,
        displacements=jnp.where(batch.atom_mask[:, :, None, None], displacements, 0.0),
        esp=electrostatics.esp(flat_charges, flat_positions, grid),
        monopoles=jnp.sum(charges, axis=-1),
        dipole=electrostatics.dipole(flat_charges, flat_positions),
        quadrupole=electrostatics.quadrupole(flat_charges, flat_positions),
        electric_field=field,
    )
