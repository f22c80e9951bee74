"""Tensor products of the directions of pairs with the features that atoms send.

The result is that of ``e3x.nn.Tensor`` on a filter, radial functions times harmonics, and
the features. The filter is never made, though. A pair's harmonics and the Clebsch-Gordan
coefficients come to one small matrix per path, the same for all features; what is left
for each feature is a product of matrix and vector and one weight.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from dcmnet.model.spherical import clebsch_gordan, of_degree

Irrep: TypeAlias = tuple[int, int]
"""Parity, 0 where even and 1 where odd, and degree."""

Irreps: TypeAlias = dict[Irrep, Float[Array, "_ _ _"]]
"""Features by irrep, (N, orders, features) each: all proper ones, or pseudotensors as well."""

Degrees: TypeAlias = tuple[int, int, int]
"""Degrees of a direction, of what is sent and of the message."""

Couplings: TypeAlias = dict[Degrees, Float[Array, "_ _ _"]]
"""What takes orders sent to orders of the message, (P, message orders, sent orders) each."""


class Sizes(NamedTuple):
    """Parity channels and highest degrees of directions, sent features and messages.

    Attributes:
        channels: 1 for proper tensors, 2 where pseudotensors are held apart.
        degrees: Highest degrees.
    """

    channels: tuple[int, int, int]
    degrees: Degrees

    @property
    def kernel(self) -> tuple[int, ...]:
        """Shape of the weights in ``e3x.nn.Tensor``, features left out."""
        sizes = zip(self.channels, self.degrees, strict=True)
        return tuple(size for channels, degree in sizes for size in (channels, degree + 1))


class Path(NamedTuple):
    """One way in which a direction and a sent irrep couple to an irrep of the message.

    Attributes:
        weight: Where its weight lies in the kernel: channel and degree of each of the three.
        sent: The irrep that is sent.
        message: The irrep of the message.
    """

    weight: tuple[int, int, int, int, int, int]
    sent: Irrep
    message: Irrep

    @property
    def degrees(self) -> Degrees:
        """The three degrees."""
        return self.weight[1], self.weight[3], self.weight[5]


def irreps_of(channels: int, max_degree: int) -> list[Irrep]:
    """Returns all irreps up to a degree, in the order of e3x: 1 channel has the proper ones."""
    return [
        (_parity(channels, channel, degree), degree)
        for channel in range(channels)
        for degree in range(max_degree + 1)
    ]


def name_of(irrep: Irrep) -> str:
    """Returns the name of an irrep in e3x's parameters, such as ``1-``."""
    parity, degree = irrep
    return f"{degree}{'+-'[parity]}"


def _parity(channels: int, channel: int, degree: int) -> int:
    # One channel holds proper tensors, (-1)^l; two hold even and odd ones apart.
    return degree % 2 if channels == 1 else channel


def channels_of(features: Irreps) -> int:
    """Returns 1 where features are proper tensors alone, 2 with pseudotensors."""
    return 1 if all(parity == degree % 2 for parity, degree in features) else 2


def max_degree_of(features: Irreps) -> int:
    """Returns the highest degree of features."""
    return max(degree for _, degree in features)


def message_sizes(features: Irreps, max_degree: int, include_pseudotensors: bool) -> Sizes:
    """Returns the sizes of the product of directions and features, both up to a degree."""
    channels, degrees = channels_of(features), (max_degree, max_degree_of(features), max_degree)
    # Proper tensors of which one is scalar make no pseudotensors.
    proper = channels == 1 and 0 in degrees
    return Sizes((1, channels, 2 if include_pseudotensors and not proper else 1), degrees)


@functools.cache
def paths_of(sizes: Sizes) -> tuple[Path, ...]:
    """Returns the paths that conserve parity and fulfil the triangle inequality."""
    found = []
    for weight in np.ndindex(*sizes.kernel):
        degrees = weight[1::2]
        parities = map(_parity, sizes.channels, weight[::2], degrees)
        (first, sent, message), (l1, l2, l3) = parities, degrees
        if (first + sent) % 2 == message and abs(l1 - l2) <= l3 <= l1 + l2:
            found.append(Path(weight, (sent, l2), (message, l3)))
    return tuple(found)


def put_together(features: Irreps) -> Float[Array, "N orders features"]:
    """Returns features as one array, whose orders are in the order of e3x."""
    irreps = irreps_of(channels_of(features), max_degree_of(features))
    return jnp.concatenate([features[irrep] for irrep in irreps], axis=1)


def couplings_of(angular: Float[Array, "P degrees"], paths: Iterable[Path]) -> Couplings:
    """Returns sum_m Y_m <m j|k> of each pair: spherical harmonics coupled to j and k.

    Args:
        angular: Spherical harmonics of the directions, in Racah's normalisation.
        paths: The paths that are asked for.
    """
    asked = tuple(dict.fromkeys(path.degrees for path in paths))
    shapes = [(2 * l3 + 1, 2 * l2 + 1) for _, l2, l3 in asked]
    coefficients = _coefficients(asked, angular.shape[1]).astype(angular.dtype)
    all_of_them = jnp.matmul(angular, coefficients, precision="highest")
    parts = jax.lax.split(all_of_them, [rows * columns for rows, columns in shapes], axis=1)
    return {
        degrees: part.reshape(-1, *shape)
        for degrees, part, shape in zip(asked, parts, shapes, strict=True)
    }


@functools.cache
def _coefficients(asked: tuple[Degrees, ...], orders: int) -> Float[np.ndarray, "degrees entries"]:
    """Returns the Clebsch-Gordan coefficients of some degrees, harmonics by all else."""
    of_all = clebsch_gordan(max(map(max, asked)))
    blocks = []
    for l1, l2, l3 in asked:
        first, sent, message = map(of_degree, (l1, l2, l3))
        own = np.swapaxes(of_all[first, sent, message], 1, 2).reshape(2 * l1 + 1, -1)
        blocks.append(np.pad(own, [(l1**2, orders - (l1 + 1) ** 2), (0, 0)]))
    return np.concatenate(blocks, axis=1)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def couple(
    paths: tuple[Path, ...],
    weights: tuple[Float[Array, "P features"], ...],
    couplings: Couplings,
    sent: Irreps,
) -> Irreps:
    """Returns messages, the sum over paths of weight * coupling @ sent.

    The gradient is written by hand: as XLA derives it, it makes an array of every product.

    Args:
        paths: The paths.
        weights: Weight of each path, for every pair and feature.
        couplings: As ``couplings_of``.
        sent: What the sender of each pair sends.
    """
    messages: Irreps = {}
    for path, weight in zip(paths, weights, strict=True):
        turned = _product(couplings[path.degrees], sent[path.sent])
        messages[path.message] = messages.get(path.message, 0.0) + weight[:, None] * turned
    return messages


def _product(
    matrix: Float[Array, "P rows columns"], vector: Float[Array, "P columns features"]
) -> Float[Array, "P rows features"]:
    # Written out, since a contraction of three or five terms is faster in a register.
    columns = jax.lax.split(matrix, [1] * matrix.shape[2], axis=2)
    return _sum(c * v for c, v in zip(columns, orders_of(vector), strict=True))


def orders_of(features: Float[Array, "P orders features"]) -> list[Float[Array, "P 1 features"]]:
    """Returns features order by order."""
    return list(jax.lax.split(features, [1] * features.shape[1], axis=1))


def _sum(terms: Iterable[Array]) -> Array:
    return functools.reduce(jnp.add, terms)


_Operands: TypeAlias = tuple[tuple[Array, ...], Couplings, Irreps]


def _couple_forward(
    paths: tuple[Path, ...], weights: tuple[Array, ...], couplings: Couplings, sent: Irreps
) -> tuple[Irreps, _Operands]:
    return couple(paths, weights, couplings, sent), (weights, couplings, sent)


def _couple_backward(paths: tuple[Path, ...], operands: _Operands, cotangents: Irreps) -> _Operands:
    weights, couplings, sent = operands
    d_weights = []
    d_couplings = jax.tree.map(jnp.zeros_like, couplings)
    d_sent = jax.tree.map(jnp.zeros_like, sent)
    for path, weight in zip(paths, weights, strict=True):
        matrix, above, below = couplings[path.degrees], cotangents[path.message], sent[path.sent]
        turned_back = _product(jnp.swapaxes(matrix, 1, 2), above)
        d_sent[path.sent] += weight[:, None] * turned_back
        products = (a * b for a, b in zip(orders_of(turned_back), orders_of(below), strict=True))
        d_weights.append(_sum(products)[:, 0])
        # Summed over features, for each pair: rows by columns.
        d_couplings[path.degrees] += jax.lax.dot_general(
            weight[:, None] * above, below, (((2,), (2,)), ((0,), (0,))), precision="highest"
        )
    return tuple(d_weights), d_couplings, d_sent


couple.defvjp(_couple_forward, _couple_backward)
