"""Exact total charge: the charges of a molecule sum to what the molecule carries."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

# Multiples of this add up without rounding in float32 while their sum stays below 4096.
_COARSE = 2.0**-12


def _sum(charges: Float[Array, "B K"]) -> Float[Array, " B"]:
    """Sums coarse and fine parts apart: rounding then is that of the fine parts, 1e-8 e."""
    coarse = jnp.round(charges / _COARSE) * _COARSE
    return jnp.sum(coarse, axis=1) + jnp.sum(charges - coarse, axis=1)


def constrain_total_charge(
    charges: Float[Array, "B A D"],
    atom_mask: Bool[Array, "B A"],
    total_charge: Float[Array, " B"],
    has_total_charge: Bool[Array, " B"],
    softness: Float[Array, "B A"] | None = None,
) -> Float[Array, "B A D"]:
    """Shifts the charges of each molecule so that they sum to its total charge.

    Equal shifts are the orthogonal projection onto charges of the right sum: the smallest
    change, in the least-squares sense, that makes it exact. By a softness they are the
    smallest one where changes of atom i weigh 1 / softness_i.

    Args:
        charges: Distributed charges in e.
        atom_mask: True where an atom is real.
        total_charge: Net charge of each molecule in e.
        has_total_charge: False where it is not known; those charges are left alone.
        softness: By which atoms share what is lacking, positive; equal for all where None.

    Returns:
        Charges in e, zero on padding atoms; a molecule without atoms gets zeros.
    """
    inside = jnp.repeat(atom_mask, charges.shape[-1], axis=1)
    flat = jnp.where(inside, charges.reshape(inside.shape), 0.0)
    by_atom = jnp.ones(atom_mask.shape, flat.dtype) if softness is None else softness
    parts = jnp.where(inside, jnp.repeat(by_atom, charges.shape[-1], axis=1), 0.0)
    whole = jnp.sum(parts, axis=1, keepdims=True)
    shares = parts / jnp.where(whole > 0, whole, 1.0)
    for _ in range(2):  # the second round takes away the rounding error of the first
        excess = jnp.where(has_total_charge, _sum(flat) - total_charge, 0.0)
        flat -= excess[:, None] * shares
    # Shifts below the resolution of large charges are lost; the smallest takes the rest.
    rest = jnp.where(has_total_charge, _sum(flat) - total_charge, 0.0)
    smallest = jnp.argmin(jnp.where(inside, jnp.abs(flat), jnp.inf), axis=1)
    correction = jax.nn.one_hot(smallest, flat.shape[1]) * jax.lax.stop_gradient(rest)[:, None]
    return jnp.where(inside, flat - correction, 0.0).reshape(charges.shape)
