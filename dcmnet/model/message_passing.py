"""Equivariant message passing over atoms within a cutoff (e3x)."""

from __future__ import annotations

import functools

import e3x
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from dcmnet.model.convolution import Pairs, convolve
from dcmnet.model.spherical import spherical_harmonics
from dcmnet.model.tensor_dense import DenseByIrrep, TensorKernel
from dcmnet.model.tensor_product import (
    Irreps,
    irreps_of,
    message_sizes,
    name_of,
    orders_of,
    paths_of,
)

# Å; atoms that lie in one place have no direction, but a gradient.
_CLOSEST = 1e-6


def safe_displacements(
    positions: Float[Array, "N 3"],
    pair_dst: Int[Array, " P"],
    pair_src: Int[Array, " P"],
    pair_mask: Bool[Array, " P"],
    cutoff: float,
) -> Float[Array, "P 3"]:
    """Returns source minus destination; masked pairs are put beyond the cutoff.

    There the smooth cutoff is exactly zero, and unlike a zero vector the
    displacement has a gradient.
    """
    displacements = positions[pair_src] - positions[pair_dst]
    beyond = jnp.array([2.0 * cutoff, 0.0, 0.0], displacements.dtype)
    return jnp.where(pair_mask[:, None], displacements, beyond)


def bernstein(distances: Float[Array, " P"], num: int) -> Float[Array, "P num"]:
    """Returns the Bernstein polynomials of r / (1 + r), as ``e3x.nn.reciprocal_bernstein``.

    Rounded as there: parameters have been trained with that.

    Args:
        distances: r, above 0.
        num: Number of polynomials, of degree ``num - 1``.
    """
    degree, k = num - 1, np.arange(num, dtype=distances.dtype)[None]
    x = 1 - 1 / (1 + distances[:, None])
    binomials = _log_binomials(num).astype(distances.dtype)[None]
    return jnp.exp(binomials + k * jnp.log(x) + (degree - k) * jnp.log1p(-x))


@functools.cache
def _log_binomials(num: int) -> Float[np.ndarray, " num"]:
    k = np.arange(num, dtype=np.float32)
    with jax.ensure_compile_time_eval():
        log_beta = jax.jit(jax.scipy.special.betaln)(num - k, 1 + k)
    return -np.asarray(log_beta) - np.log(np.float32(num))


class RadialKernels(nn.Module):
    """The dense layers that make a filter of the radial basis; parameters as e3x's.

    There is no bias, so that masked pairs send nothing.

    Attributes:
        features: Features of each degree.
        max_degree: Highest degree.
        num_basis_functions: Radial basis functions.
    """

    features: int
    max_degree: int
    num_basis_functions: int

    @nn.compact
    def __call__(self) -> list[Float[Array, "basis features"]]:
        """Returns the kernel of each degree."""
        return [
            _Kernel((self.num_basis_functions, self.features), name=name_of(irrep))()
            for irrep in irreps_of(1, self.max_degree)
        ]


class _Kernel(nn.Module):
    shape: tuple[int, int]

    @nn.compact
    def __call__(self) -> Float[Array, "basis features"]:
        return self.param("kernel", nn.linear.default_kernel_init, self.shape, jnp.float32)


class MessagePass(nn.Module):
    """One equivariant message pass; parameters and results as ``e3x.nn.MessagePass``.

    The filter of a pair, a dense layer a degree on the radial basis times the harmonics, is
    never made: the dense layer takes in the weight of each path of the tensor product, and
    the harmonics stay one number per pair.

    Attributes:
        max_degree: Highest degree of the messages.
        include_pseudotensors: Whether messages keep pseudotensors.
    """

    max_degree: int
    include_pseudotensors: bool

    @nn.compact
    def __call__(self, features: Irreps, pairs: Pairs) -> Irreps:
        """Returns what each atom receives; the pairs must be sorted by destination."""
        scalars = features[0, 0]
        atoms, _, width = scalars.shape
        sizes = message_sizes(features, self.max_degree, self.include_pseudotensors)
        paths = paths_of(sizes)
        radial = RadialKernels(width, self.max_degree, pairs.radial.shape[-1], name="filter")()
        kernel = TensorKernel(sizes, width, name="tensor")()
        # All paths at once, which takes fewer operations than one by one.
        of_degree = jnp.stack(radial)[np.array([path.degrees[0] for path in paths])]
        of_path = kernel[tuple(np.array([path.weight for path in paths]).T)]
        kernels = tuple(jnp.unstack(of_degree * of_path[:, None]))
        received = convolve(paths, kernels, features, pairs)
        # Of pseudoscalars, for one, nothing comes of proper tensors.
        return {
            (parity, degree): received[parity, degree]
            if (parity, degree) in received
            else jnp.zeros((atoms, 2 * degree + 1, width), scalars.dtype)
            for parity, degree in irreps_of(sizes.channels[2], self.max_degree)
        }


def gated(features: Irreps) -> Irreps:
    """Returns the features times the sigmoid of their scalars, as ``e3x.nn.silu``.

    Order by order: the gradient of the gate is a sum over the orders, which XLA does not
    vectorise as the sum over an axis.
    """
    gate = jax.nn.sigmoid(features[0, 0])
    return {
        irrep: jnp.concatenate([gate * order for order in orders_of(part)], axis=1)
        for irrep, part in features.items()
    }


def added(features: Irreps, more: Irreps) -> Irreps:
    """Returns the sum of features, of which either may lack an irrep, as ``e3x.nn.add``."""
    both = {irrep: features[irrep] + more[irrep] for irrep in features.keys() & more.keys()}
    return {**features, **more, **both}


class MessagePassing(nn.Module):
    """Atom features from atomic numbers and positions.

    The published network (Boittier & Meuwly, arXiv 2602.07234): an element
    embedding, then per iteration an equivariant message pass, added to the
    features, and dense, SiLU, dense with a residual. Submodules keep the names
    that published parameters use.

    Attributes:
        features: Features of each degree and parity.
        max_degree: Highest degree of the features.
        num_iterations: Message passes.
        num_basis_functions: Radial basis functions.
        cutoff: Angstrom.
        max_atomic_number: Largest atomic number it can embed.
        include_pseudotensors: Whether all but the last pass keep pseudotensors.
    """

    features: int
    max_degree: int
    num_iterations: int
    num_basis_functions: int
    cutoff: float
    max_atomic_number: int
    include_pseudotensors: bool

    @nn.compact
    def __call__(
        self,
        atomic_numbers: Int[Array, " N"],
        positions: Float[Array, "N 3"],
        pair_dst: Int[Array, " P"],
        pair_src: Int[Array, " P"],
        pair_mask: Bool[Array, " P"],
    ) -> Irreps:
        """Returns features of all atoms; the pairs must be sorted by destination."""
        pairs = self._pairs(
            safe_displacements(positions, pair_dst, pair_src, pair_mask, self.cutoff),
            pair_dst,
            pair_src,
        )
        embed = e3x.nn.Embed(num_embeddings=self.max_atomic_number + 1, features=self.features)
        x: Irreps = {(0, 0): embed(atomic_numbers)[:, 0]}
        for iteration in range(self.num_iterations):
            last = iteration == self.num_iterations - 1
            y = MessagePass(
                max_degree=self.max_degree,
                include_pseudotensors=self.include_pseudotensors and not last,
            )(x, pairs)
            y = added(x, y)
            y = DenseByIrrep(self.features, name=f"Dense_{2 * iteration}")(y)
            y = gated(y)
            y = DenseByIrrep(self.features, name=f"Dense_{2 * iteration + 1}")(y)
            x = added(x, y)
        return x

    def _pairs(
        self,
        displacements: Float[Array, "P 3"],
        pair_dst: Int[Array, " P"],
        pair_src: Int[Array, " P"],
    ) -> Pairs:
        """Adds e3x's basis, radial and angular apart: Bernstein functions under a cutoff."""
        distances = jnp.maximum(e3x.ops.norm(displacements, axis=-1), _CLOSEST)
        radial = bernstein(distances, self.num_basis_functions)
        radial *= e3x.nn.smooth_cutoff(distances, cutoff=self.cutoff)[:, None]
        angular = spherical_harmonics(displacements / distances[:, None], self.max_degree)
        return Pairs(pair_dst, pair_src, radial, angular)
