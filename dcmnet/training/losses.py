"""One loss term a property, for every molecule of a batch."""

from __future__ import annotations

import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float

from dcmnet.config import LossConfig
from dcmnet.model.electrostatics import inverse_distances
from dcmnet.model.observables import Observables
from pipeline.chemistry.fitted_multipoles import traceless
from pipeline.chemistry.radii import VDW_RADII
from pipeline.loader import MoleculeBatch
from store_schema.units import HARTREE_IN_KCAL_PER_MOL

# In hartree/e: where root and square have one slope, and below which the root is smooth.
_UNIT = 1 / HARTREE_IN_KCAL_PER_MOL
_SMOOTH = 0.1 * _UNIT


def _mean_over(values: Float[Array, "B *rest"], mask: Bool[Array, "B *rest"]) -> Float[Array, " B"]:
    # A sum over an empty mask divided by one is zero: nothing there, nothing lost.
    axes = tuple(range(1, values.ndim))
    total = jnp.sum(jnp.where(mask, values, 0.0), axis=axes)
    return total / jnp.maximum(jnp.sum(mask, axis=axes, dtype=values.dtype), 1)


def points_outside(batch: MoleculeBatch, factor: float) -> Bool[Array, "B G"]:
    """Tells which points are no nearer to any atom than a factor of its van der Waals radius.

    Point charges cannot follow a potential inside the electron density. The radii are
    those that ingestion and validation go by.
    """
    limits = factor * jnp.asarray(VDW_RADII, jnp.float32)[jnp.asarray(batch.atomic_numbers)]
    inverse = inverse_distances(jnp.asarray(batch.positions), jnp.asarray(batch.vdw_surface))
    return jnp.all(inverse * limits[:, :, None] <= 1.0, axis=1)


def _rooted(error: Float[Array, " B"]) -> Float[Array, " B"]:
    """Returns root mean squared errors, scaled to the slope of ``error`` at 1 kcal/mol/e.

    Args:
        error: Half the mean squared errors, (hartree/e)^2.
    """
    # The root itself has no gradient at zero.
    return _UNIT * (jnp.sqrt(2 * error + _SMOOTH**2) - _SMOOTH)


def molecule_losses(
    predicted: Observables, batch: MoleculeBatch, config: LossConfig
) -> dict[str, Float[Array, " B"]]:
    """Returns the weighted loss terms of each molecule.

    Each term is a mean over the molecule's own atoms, points or components of half
    the squared error, times its weight. A molecule without the target, and a padding
    molecule, contributes zero.

    Args:
        predicted: Predictions of the batch.
        batch: References and masks.
        config: Weights; a term of weight 0 is left out altogether.

    Returns:
        Terms by name: ``esp``, ``field``, ``monopoles``, ``dipole``, ``quadrupole``.
    """
    terms = {}
    points = jnp.asarray(batch.grid_mask & batch.molecule_mask[:, None])
    if config.min_vdw_factor is not None and (config.esp_w or config.field_w):
        points &= points_outside(batch, config.min_vdw_factor)
    if config.esp_w:
        mask = points & batch.has_esp[:, None]
        error = _mean_over(optax.l2_loss(predicted.esp, batch.esp), mask)
        terms["esp"] = config.esp_w * (_rooted(error) if config.esp_loss == "rmse" else error)
    if config.field_w and batch.electric_field.shape[1]:
        mask = (points & batch.has_electric_field[:, None])[:, :, None]
        error = optax.l2_loss(predicted.electric_field, batch.electric_field)
        terms["field"] = config.field_w * _mean_over(error, jnp.broadcast_to(mask, error.shape))
    if config.chg_w:
        mask = batch.atom_mask & (batch.has_monopoles & batch.molecule_mask)[:, None]
        error = optax.l2_loss(predicted.monopoles, batch.monopoles)
        terms["monopoles"] = config.chg_w * _mean_over(error, mask)
    if config.dipole_w:
        mask = jnp.broadcast_to(
            (batch.has_dipole & batch.molecule_mask)[:, None], batch.dipole.shape
        )
        error = optax.l2_loss(predicted.dipole, batch.dipole)
        terms["dipole"] = config.dipole_w * _mean_over(error, mask)
    if config.quadrupole_w:
        mask = jnp.broadcast_to(
            (batch.has_quadrupole & batch.molecule_mask)[:, None, None], batch.quadrupole.shape
        )
        # A trace does not show outside, and many programs write quadrupoles without it.
        error = optax.l2_loss(traceless(predicted.quadrupole - batch.quadrupole))
        terms["quadrupole"] = config.quadrupole_w * _mean_over(error, mask)
    return terms
