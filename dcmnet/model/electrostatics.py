"""ESP, dipole and quadrupole of distributed charges.

Charges in e, lengths in angstrom; potentials in hartree/e, dipoles in
e*angstrom, quadrupoles in e*angstrom^2. The potential of point charges is
V(r) = sum_k q_k / |r - x_k| in atomic units, so lengths in angstrom bring in
one factor of the bohr radius (store_schema.units).
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dcmnet.model import blocks
from dcmnet.model.blocks import block_size, from_blocks, to_blocks
from store_schema.units import BOHR_IN_ANGSTROM

# Distances whose gradient is worked out at once, but of so many points at least: 1 MB, which
# stays in the cache of a core, and memory does not grow with the grid.
_BLOCK = 2**18
_LEAST_POINTS = 16
# A charge that sits on a point has no potential; this keeps masked points, which
# all lie at the origin, finite. It is far below any distance of a valid point.
_MIN_SQUARED_DISTANCE = 1e-8


def _separations(
    first: Float[Array, "B N 3"], second: Float[Array, "B M 3"]
) -> list[Float[Array, "B N M"]]:
    # By components: XLA fuses each into its use, so no (N, M, 3) array is made.
    return [first[:, :, None, axis] - second[:, None, :, axis] for axis in range(3)]


def _inverse_distances(separations: list[Float[Array, "B N M"]]) -> Float[Array, "B N M"]:
    squared = sum(component**2 for component in separations)
    return jax.lax.rsqrt(jnp.maximum(squared, _MIN_SQUARED_DISTANCE))


def inverse_distances(
    first: Float[Array, "B N 3"], second: Float[Array, "B M 3"]
) -> Float[Array, "B N M"]:
    """Returns 1/r between two sets of places, 1/angstrom; finite where they coincide.

    What is added up over charges is quickest with the grid as the second set: its
    points lie side by side in memory, and a processor takes several at once.
    """
    return _inverse_distances(_separations(first, second))


@jax.custom_vjp
def esp(
    charges: Float[Array, "B K"], positions: Float[Array, "B K 3"], grid: Float[Array, "B G 3"]
) -> Float[Array, "B G"]:
    """Returns the electrostatic potential of point charges on a grid.

    On a processor, charge by charge forwards, and block by block of the grid backwards, so
    that no array of all points by all charges exists. The gradient is written out by hand:
    with c the cotangent, dL/dq_k = sum_g c_g / r_gk and
    dL/dx_k = q_k sum_g c_g (g - x_k) / r_gk^3, times the bohr radius.

    Args:
        charges: Charges in e; zero for padding.
        positions: Their positions in angstrom.
        grid: Points in angstrom.

    Returns:
        Potential in hartree/e.
    """
    if blocks.all_at_once():
        inverse = inverse_distances(positions, grid)
        return BOHR_IN_ANGSTROM * jnp.sum(charges[:, :, None] * inverse, axis=1)

    def add(potential: Array, charge: tuple[Array, Array]) -> tuple[Array, None]:
        q, x = charge
        return potential + q[:, None] * inverse_distances(x[:, None], grid)[:, 0], None

    each = jnp.moveaxis(charges, 1, 0), jnp.moveaxis(positions, 1, 0)
    potential, _ = jax.lax.scan(add, jnp.zeros_like(grid[:, :, 0]), each, unroll=8)
    return BOHR_IN_ANGSTROM * potential


_Operands = tuple[Float[Array, "B K"], Float[Array, "B K 3"], Float[Array, "B G 3"]]


def _esp_forward(
    charges: Float[Array, "B K"], positions: Float[Array, "B K 3"], grid: Float[Array, "B G 3"]
) -> tuple[Float[Array, "B G"], _Operands]:
    return esp(charges, positions, grid), (charges, positions, grid)


def _esp_backward(operands: _Operands, cotangent: Float[Array, "B G"]) -> _Operands:
    charges, positions, grid = operands

    def of_block(sums: tuple[Array, Array], block: tuple[Array, Array]) -> tuple[Any, Array]:
        d_charges, d_positions = sums
        points, c = block
        separations = _separations(points, positions)
        inverse = _inverse_distances(separations)
        weighted = c[:, :, None] * inverse
        pulls = [weighted * inverse * inverse * component for component in separations]
        d_charges += jnp.sum(weighted, axis=1)
        d_positions += jnp.stack([jnp.sum(pull, axis=1) for pull in pulls], axis=-1)
        along = functools.partial(jnp.einsum, "bgk,bk->bg", precision="highest")
        d_grid = -jnp.stack([along(pull, charges) for pull in pulls], axis=-1)
        return (d_charges, d_positions), d_grid

    size = block_size(grid.shape[1], max(_BLOCK // max(charges.size, 1), _LEAST_POINTS))
    (d_charges, d_positions), d_grid = jax.lax.scan(
        of_block,
        (jnp.zeros_like(charges), jnp.zeros_like(positions)),
        (to_blocks(grid, size, axis=1), to_blocks(cotangent, size, axis=1)),
    )
    return (
        BOHR_IN_ANGSTROM * d_charges,
        BOHR_IN_ANGSTROM * charges[:, :, None] * d_positions,
        BOHR_IN_ANGSTROM * from_blocks(d_grid, grid.shape[1], axis=1),
    )


esp.defvjp(_esp_forward, _esp_backward)


def electric_field(
    charges: Float[Array, "B K"], positions: Float[Array, "B K 3"], grid: Float[Array, "B G 3"]
) -> Float[Array, "B G 3"]:
    """Returns the electric field of point charges on a grid, E = -dV/dr, in hartree/e/bohr.

    Args:
        charges: Charges in e; zero for padding.
        positions: Their positions in angstrom.
        grid: Points in angstrom.
    """
    potential, slope_of = jax.vjp(lambda points: esp(charges, positions, points), grid)
    (slope,) = slope_of(jnp.ones_like(potential))
    return -BOHR_IN_ANGSTROM * slope


def dipole(charges: Float[Array, "B K"], positions: Float[Array, "B K 3"]) -> Float[Array, "B 3"]:
    """Returns the dipole about the origin, sum_k q_k x_k, in e*angstrom."""
    return jnp.einsum("bk,bkx->bx", charges, positions)


def quadrupole(
    charges: Float[Array, "B K"], positions: Float[Array, "B K 3"]
) -> Float[Array, "B 3 3"]:
    """Returns the quadrupole about the origin, sum_k q_k x_k x_k, not traceless, e*angstrom^2."""
    return jnp.einsum("bk,bkx,bky->bxy", charges, positions, positions)
