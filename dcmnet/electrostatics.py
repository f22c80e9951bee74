"""ESP, dipole and quadrupole of distributed charges.

Charges in e, lengths in angstrom; potentials in hartree/e, dipoles in
e*angstrom, quadrupoles in e*angstrom^2. The potential of point charges is
V(r) = sum_k q_k / |r - x_k| in atomic units, so lengths in angstrom bring in
one factor of the bohr radius (store_schema.units).
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Shaped

from store_schema.units import BOHR_IN_ANGSTROM

# Points handled at once: a block of distances stays in the cache of a core,
# and memory does not grow with the grid.
_BLOCK = 256
# A charge that sits on a point has no potential; this keeps masked points, which
# all lie at the origin, finite. It is far below any distance of a valid point.
_MIN_SQUARED_DISTANCE = 1e-8


def _separations(
    grid: Float[Array, "B G 3"], positions: Float[Array, "B K 3"]
) -> list[Float[Array, "B G K"]]:
    # By components: XLA fuses each into its use, so no (G, K, 3) array is made.
    return [grid[:, :, None, axis] - positions[:, None, :, axis] for axis in range(3)]


def _inverse_distances(separations: list[Float[Array, "B G K"]]) -> Float[Array, "B G K"]:
    squared = sum(component**2 for component in separations)
    return jax.lax.rsqrt(jnp.maximum(squared, _MIN_SQUARED_DISTANCE))


def inverse_distances(
    grid: Float[Array, "B G 3"], positions: Float[Array, "B K 3"]
) -> Float[Array, "B G K"]:
    """Returns 1/r of every point and charge, 1/angstrom; finite where they coincide."""
    return _inverse_distances(_separations(grid, positions))


def to_blocks(array: Shaped[Array, "B G *rest"]) -> Shaped[Array, "N B block *rest"]:
    """Cuts the points of an array into blocks to map over, the last one padded with 0."""
    batch, points = array.shape[:2]
    count = -(-points // _BLOCK)
    padding = [(0, 0), (0, count * _BLOCK - points)] + [(0, 0)] * (array.ndim - 2)
    padded = jnp.pad(array, padding).reshape(batch, count, _BLOCK, *array.shape[2:])
    return jnp.moveaxis(padded, 1, 0)


def from_blocks(
    blocks: Shaped[Array, "N B block *rest"], points: int
) -> Shaped[Array, "B G *rest"]:
    """Joins blocks again and cuts the padding off."""
    count, batch, block = blocks.shape[:3]
    joined = jnp.moveaxis(blocks, 0, 1).reshape(batch, count * block, *blocks.shape[3:])
    return joined[:, :points]


@jax.custom_vjp
def esp(
    charges: Float[Array, "B K"], positions: Float[Array, "B K 3"], grid: Float[Array, "B G 3"]
) -> Float[Array, "B G"]:
    """Returns the electrostatic potential of point charges on a grid.

    The grid is worked through in blocks, forwards and backwards, so that no array
    of all points by all charges exists. The gradient is written out by hand:
    with c the cotangent, dL/dq_k = sum_g c_g / r_gk and
    dL/dx_k = q_k sum_g c_g (g - x_k) / r_gk^3, times the bohr radius.

    Args:
        charges: Charges in e; zero for padding.
        positions: Their positions in angstrom.
        grid: Points in angstrom.

    Returns:
        Potential in hartree/e.
    """

    def of_block(points: Float[Array, "B block 3"]) -> Float[Array, "B block"]:
        inverse = inverse_distances(points, positions)
        return BOHR_IN_ANGSTROM * jnp.sum(charges[:, None, :] * inverse, axis=-1)

    return from_blocks(jax.lax.map(of_block, to_blocks(grid)), grid.shape[1])


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
        d_grid = -jnp.stack([jnp.einsum("bgk,bk->bg", pull, charges) for pull in pulls], axis=-1)
        return (d_charges, d_positions), d_grid

    (d_charges, d_positions), d_grid = jax.lax.scan(
        of_block,
        (jnp.zeros_like(charges), jnp.zeros_like(positions)),
        (to_blocks(grid), to_blocks(cotangent)),
    )
    return (
        BOHR_IN_ANGSTROM * d_charges,
        BOHR_IN_ANGSTROM * charges[:, :, None] * d_positions,
        BOHR_IN_ANGSTROM * from_blocks(d_grid, grid.shape[1]),
    )


esp.defvjp(_esp_forward, _esp_backward)


def dipole(charges: Float[Array, "B K"], positions: Float[Array, "B K 3"]) -> Float[Array, "B 3"]:
    """Returns the dipole about the origin, sum_k q_k x_k, in e*angstrom."""
    return jnp.einsum("bk,bkx->bx", charges, positions)


def quadrupole(
    charges: Float[Array, "B K"], positions: Float[Array, "B K 3"]
) -> Float[Array, "B 3 3"]:
    """Returns the quadrupole about the origin, sum_k q_k x_k x_k, not traceless, e*angstrom^2."""
    return jnp.einsum("bk,bkx,bky->bxy", charges, positions, positions)
