"""Exact total charge: the charges of a molecule sum to what the molecule carries."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float


def constrain_total_charge(
    charges: Float[Array, "B A D"],
    atom_mask: Bool[Array, "B A"],
    total_charge: Float[Array, " B"],
    has_total_charge: Bool[Array, " B"],
) -> Float[Array, "B A D"]:
    """Shifts the charges of each molecule equally so that they sum to its total charge.

    This is the orthogonal projection onto charges of the right sum: the smallest
    change, in the least-squares sense, that makes it exact.

    Args:
        charges: Distributed charges in e.
        atom_mask: True where an atom is real.
        total_charge: Net charge of each molecule in e.
        has_total_charge: False where it is not known; those charges are left alone.

    Returns:
        Charges in e, zero on padding atoms; a molecule without atoms gets zeros.
    """
    charges = jnp.where(atom_mask[:, :, None], charges, 0.0)
    count = jnp.sum(atom_mask, axis=1) * charges.shape[-1]
    for _ in range(2):  # the second round takes away the rounding error of the first
        excess = jnp.sum(charges, axis=(1, 2)) - total_charge
        shift = jnp.where(has_total_charge, excess, 0.0) / jnp.maximum(count, 1)
        charges = jnp.where(atom_mask[:, :, None], charges - shift[:, None, None], 0.0)
    return charges
