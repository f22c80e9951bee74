"""Layers with the weights of a tensor product; parameters and results as those of e3x."""

from __future__ import annotations

import functools

import e3x
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from dcmnet.model.spherical import clebsch_gordan, degree_of_orders
from dcmnet.model.tensor_product import (
    Irreps,
    Sizes,
    channels_of,
    max_degree_of,
    name_of,
    paths_of,
    put_together,
)

# Traced once for each shape, whether for values or for shapes alone.
_initial_kernel = jax.jit(e3x.nn.initializers.tensor_lecun_normal(), static_argnums=(1, 2))


class TensorKernel(nn.Module):
    """The weights of a tensor product, one per path and feature; parameters as ``e3x.nn.Tensor``.

    Attributes:
        sizes: Sizes of the factors and of the product.
        features: Features of all three.
    """

    sizes: Sizes
    features: int

    @nn.compact
    def __call__(self) -> Float[Array, "parity1 degree1 parity2 degree2 parity3 degree3 features"]:
        """Returns the weights."""
        shape = (*self.sizes.kernel, self.features)
        there: Array | None = self.get_variable("params", "kernel")
        # Flax would trace how it is initialised, for its shape alone: 0.1 s each.
        if there is not None and there.shape == shape:
            return there
        return self.param("kernel", _initial_kernel, shape, jnp.float32)


class DenseByIrrep(nn.Module):
    """A dense layer for each irrep; parameters and results as ``e3x.nn.Dense``.

    Attributes:
        features: Features of the result.
    """

    features: int

    @nn.compact
    def __call__(self, x: Irreps) -> Irreps:
        """Returns the features of each irrep times its matrix; scalars have a bias."""
        return {
            irrep: nn.Dense(self.features, use_bias=irrep == (0, 0), name=name_of(irrep))(part)
            for irrep, part in x.items()
        }


class TensorDense(nn.Module):
    """The tensor product of the halves of a dense layer, as ``e3x.nn.TensorDense``.

    The product has no pseudotensors.

    Attributes:
        features: Features of the product.
        max_degree: Highest degree of the product.
    """

    features: int
    max_degree: int

    @nn.compact
    def __call__(self, x: Irreps) -> Float[Array, "N 1 degrees2 features2"]:
        """Returns the product."""
        halves = put_together(DenseByIrrep(2 * self.features, name="dense")(x))
        halves = halves.reshape(*halves.shape[:2], 2, self.features)
        products = halves[:, :, None, 0] * halves[:, None, :, 1]
        channels, degree = channels_of(x), max_degree_of(x)
        sizes = Sizes((channels, channels, 1), (degree, degree, self.max_degree))
        kernel = TensorKernel(sizes, self.features, name="tensor")()
        places, coefficients = _couplings(sizes)
        weights = kernel.reshape(-1, self.features)[places]
        weights *= coefficients[..., None].astype(weights.dtype)
        # Said here, since a gradient is traced outside of what surrounds its function.
        product = jnp.einsum("nabf,abcf->ncf", products, weights, precision="highest")
        return product[:, None]


@functools.cache
def _couplings(
    sizes: Sizes,
) -> tuple[Int[np.ndarray, "sent sent2 received"], Float[np.ndarray, "sent sent2 received"]]:
    """Returns where the weight of each triple of orders lies in the kernel, and its coefficient.

    Orders of all channels lie one after the other. A coefficient is 0 where the parities of
    the three do not fit each other.
    """
    degrees = [degree_of_orders(degree) for degree in sizes.degrees]
    allowed = np.zeros(sizes.kernel)
    for path in paths_of(sizes):
        allowed[path.weight] = 1.0
    every = [
        index
        for channels, orders in zip(sizes.channels, degrees, strict=True)
        for index in (np.arange(channels), orders)
    ]
    triples = [c * len(orders) for c, orders in zip(sizes.channels, degrees, strict=True)]
    places = np.arange(allowed.size).reshape(sizes.kernel)[np.ix_(*every)].reshape(triples)
    first, second, third = map(len, degrees)
    table = clebsch_gordan(max(sizes.degrees))[:first, :second, :third]
    coefficients = allowed[np.ix_(*every)] * table[None, :, None, :, None]
    return places, coefficients.reshape(triples)
