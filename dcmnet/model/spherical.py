"""Spherical harmonics and how they couple, with constants that are made once, by NumPy.

e3x makes the same numbers again for every program that is traced, out of dozens of small
compiled ones; here they are those of its table of Clebsch-Gordan coefficients.
"""

from __future__ import annotations

import functools

import e3x
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int


def of_degree(degree: int) -> slice:
    """Returns where the orders of a degree lie among those of all degrees."""
    return slice(degree**2, (degree + 1) ** 2)


def degree_of_orders(max_degree: int) -> Int[np.ndarray, " orders"]:
    """Returns the degree of each order up to a degree."""
    degrees = np.arange(max_degree + 1)
    return np.repeat(degrees, 2 * degrees + 1)


@functools.cache
def clebsch_gordan(max_degree: int) -> Float[np.ndarray, "orders orders orders"]:
    """Returns the Clebsch-Gordan coefficients of real spherical harmonics up to a degree.

    Args:
        max_degree: Highest degree of all three.
    """
    degrees = (max_degree,) * 3
    table = np.asarray(e3x.so3.clebsch_gordan(*degrees, cartesian_order=False))
    order = np.concatenate([_cartesian_order(degree) for degree in range(max_degree + 1)])
    return table[np.ix_(order, order, order)]


def _cartesian_order(degree: int) -> Int[np.ndarray, " orders"]:
    """Returns places of the orders l, -l, l-1, ... 0, so that those of degree 1 are x, y, z."""
    pairs = [(2 * degree - m, m) for m in range(degree)]
    return np.array([*sum(pairs, ()), degree]) + degree**2


def spherical_harmonics(
    directions: Float[Array, "P 3"], max_degree: int
) -> Float[Array, "P orders"]:
    """Returns the real spherical harmonics of unit vectors, in Racah's normalisation.

    Those of a degree are those of the degree below coupled to the vector, divided by what
    makes them 1 at the pole: ``e3x.so3.spherical_harmonics`` in fewer operations.

    Args:
        directions: Unit vectors.
        max_degree: Highest degree.
    """
    harmonics = [jnp.ones_like(directions[:, :1]), directions]
    for degree in range(2, max_degree + 1):
        below = harmonics[-1]
        products = (below[:, :, None] * directions[:, None, :]).reshape(below.shape[0], -1)
        coupling = _to_the_next(degree).astype(directions.dtype)
        harmonics.append(jnp.matmul(products, coupling, precision="highest"))
    return jnp.concatenate(harmonics[: max_degree + 1], axis=1)


@functools.cache
def _to_the_next(degree: int) -> Float[np.ndarray, "products orders"]:
    """Returns the matrix from products of harmonics and x, y, z to the harmonics of a degree."""
    coupling = clebsch_gordan(degree)[of_degree(degree - 1), of_degree(1), of_degree(degree)]
    return (coupling / coupling[-1, -1, -1]).reshape(-1, 2 * degree + 1)
