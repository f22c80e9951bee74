"""Tensor products of equivariant features, term by term.

Clebsch-Gordan coefficients are sparse: of the 729 products of two features up to
degree 2, 83 count. Writing those out as fused elementwise arithmetic takes a
small part of the time of a dense contraction. Shapes, parameters and results are
those of ``e3x.nn.Tensor``.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import e3x
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

# Smaller coefficients are rounding errors of zero.
_TINY = 1e-6


class _Path(NamedTuple):
    """One way two irreps couple to a third: channels, degrees and the terms of each order."""

    weight: tuple[int, int, int, int, int, int]
    terms: dict[int, list[tuple[int, int, float]]]


def max_degree_of(features: Float[Array, "*batch parity degrees features"]) -> int:
    """Returns the highest degree of a feature array."""
    return int(np.sqrt(features.shape[-2])) - 1


def _parity(channels: int, channel: int, degree: int) -> int:
    # One channel holds proper tensors, (-1)^l; two hold even and odd ones apart.
    return degree % 2 if channels == 1 else channel


@functools.cache
def _paths(channels: tuple[int, int, int], degrees: tuple[int, int, int]) -> tuple[_Path, ...]:
    """Returns the paths that conserve parity and have non-zero coefficients."""
    coefficients = np.asarray(e3x.so3.clebsch_gordan(*degrees), dtype=np.float64)
    paths = []
    for c1, l1, c2, l2, c3, l3 in np.ndindex(
        channels[0], degrees[0] + 1, channels[1], degrees[1] + 1, channels[2], degrees[2] + 1
    ):
        parity = _parity(channels[0], c1, l1) + _parity(channels[1], c2, l2)
        if parity % 2 != _parity(channels[2], c3, l3) or not abs(l1 - l2) <= l3 <= l1 + l2:
            continue
        terms: dict[int, list[tuple[int, int, float]]] = {}
        for m1, m2, m3 in np.ndindex(2 * l1 + 1, 2 * l2 + 1, 2 * l3 + 1):
            i, j, k = l1 * l1 + m1, l2 * l2 + m2, l3 * l3 + m3
            if abs(coefficients[i, j, k]) > _TINY:
                terms.setdefault(k, []).append((i, j, float(coefficients[i, j, k])))
        paths.append(_Path((c1, l1, c2, l2, c3, l3), terms))
    return tuple(paths)


class TensorProduct(nn.Module):
    """Couples two feature arrays with a learned weight for each path and feature.

    Attributes:
        max_degree: Highest degree of the product.
        include_pseudotensors: Whether paths to pseudotensors are kept.
    """

    max_degree: int
    include_pseudotensors: bool

    @nn.compact
    def __call__(
        self,
        a: Float[Array, "*batch parity1 degrees1 features"],
        b: Float[Array, "*batch parity2 degrees2 features"],
    ) -> Float[Array, "*batch parity3 degrees3 features"]:
        """Returns the product."""
        degrees = (max_degree_of(a), max_degree_of(b), self.max_degree)
        # Proper tensors of which one is scalar cannot make a pseudotensor.
        proper = a.shape[-3] == b.shape[-3] == 1 and 0 in degrees
        channels = (a.shape[-3], b.shape[-3], 2 if self.include_pseudotensors and not proper else 1)
        shape = tuple(
            size
            for channel, degree in zip(channels, degrees, strict=True)
            for size in (channel, degree + 1)
        )
        kernel = self.param(
            "kernel", e3x.nn.initializers.tensor_lecun_normal(), (*shape, a.shape[-1]), jnp.float32
        )
        return couple(a, b, kernel, channels, degrees)


class TensorDense(nn.Module):
    """Couples two linear projections of the features; parameters as ``e3x.nn.TensorDense``.

    Attributes:
        features: Features of the result.
        max_degree: Highest degree of the result.
        include_pseudotensors: Whether paths to pseudotensors are kept.
    """

    features: int
    max_degree: int
    include_pseudotensors: bool

    @nn.compact
    def __call__(
        self, x: Float[Array, "*batch parity degrees features"]
    ) -> Float[Array, "*batch parity2 degrees2 features2"]:
        """Returns the product of the projections."""
        a, b = jnp.split(e3x.nn.Dense(2 * self.features, name="dense")(x), 2, axis=-1)
        return TensorProduct(self.max_degree, self.include_pseudotensors, name="tensor")(a, b)


_Orders = dict[tuple[int, int], Array]


def _unstack(features: Float[Array, "*batch parity degrees features"]) -> _Orders:
    """Returns every channel and order on its own.

    Each is sliced once: a slice for each term would cost its transpose as often.
    """
    channels, orders = features.shape[-3:-1]
    return {(c, k): features[..., c, k, :] for c in range(channels) for k in range(orders)}


def _stack(
    orders: _Orders, like: Float[Array, "*batch parity degrees features"]
) -> Float[Array, "*batch parity degrees features"]:
    """Returns the orders as one array of the shape of ``like``, zero where there is none."""
    zero = jnp.zeros_like(like[..., 0, 0, :])
    return jnp.stack(
        [
            jnp.stack([orders.get((c, k), zero) for k in range(like.shape[-2])], axis=-2)
            for c in range(like.shape[-3])
        ],
        axis=-3,
    )


def _add(orders: _Orders, key: tuple[int, int], value: Array) -> None:
    orders[key] = orders[key] + value if key in orders else value


@functools.partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def couple(
    a: Float[Array, "*batch parity1 degrees1 features"],
    b: Float[Array, "*batch parity2 degrees2 features"],
    kernel: Float[Array, "parity1 degree1 parity2 degree2 parity3 degree3 features"],
    channels: tuple[int, int, int],
    degrees: tuple[int, int, int],
) -> Float[Array, "*batch parity3 degrees3 features"]:
    """Returns the sum over paths of kernel * coefficient * a * b.

    The gradient is written by hand, as sums of the same terms.

    Args:
        a: First factor.
        b: Second factor.
        kernel: Weight of each path.
        channels: Parity channels of the factors and of the product.
        degrees: Highest degrees of the factors and of the product.
    """
    first, second = _unstack(a), _unstack(b)
    product: _Orders = {}
    for path in _paths(channels, degrees):
        c1, _, c2, _, c3, _ = path.weight
        for k, terms in path.terms.items():
            coupled = sum(v * first[c1, i] * second[c2, j] for i, j, v in terms)
            _add(product, (c3, k), kernel[path.weight] * coupled)
    shape = (*a.shape[:-3], channels[2], (degrees[2] + 1) ** 2, a.shape[-1])
    return _stack(product, jnp.zeros(shape, a.dtype))


def _couple_forward(
    a: Array,
    b: Array,
    kernel: Array,
    channels: tuple[int, int, int],
    degrees: tuple[int, int, int],
) -> tuple[Array, tuple[Array, Array, Array]]:
    return couple(a, b, kernel, channels, degrees), (a, b, kernel)


def _couple_backward(
    channels: tuple[int, int, int],
    degrees: tuple[int, int, int],
    operands: tuple[Array, Array, Array],
    cotangent: Array,
) -> tuple[Array, Array, Array]:
    a, b, kernel = operands
    first, second, above = _unstack(a), _unstack(b), _unstack(cotangent)
    d_first: _Orders = {}
    d_second: _Orders = {}
    d_kernel = jnp.zeros_like(kernel)
    batch = tuple(range(a.ndim - 3))
    for path in _paths(channels, degrees):
        c1, _, c2, _, c3, _ = path.weight
        along: _Orders = {}
        back: _Orders = {}
        for k, terms in path.terms.items():
            for i, j, v in terms:
                _add(along, (c1, i), v * second[c2, j] * above[c3, k])
                _add(back, (c2, j), v * first[c1, i] * above[c3, k])
        for key, value in along.items():
            _add(d_first, key, kernel[path.weight] * value)
        for key, value in back.items():
            _add(d_second, key, kernel[path.weight] * value)
        weight = sum(first[key] * value for key, value in along.items())
        d_kernel = d_kernel.at[path.weight].set(jnp.sum(weight, axis=batch))
    return _stack(d_first, a), _stack(d_second, b), d_kernel


couple.defvjp(_couple_forward, _couple_backward)
