"""Equivariant message passing over atoms within a cutoff (e3x)."""

from __future__ import annotations

from typing import NamedTuple

import e3x
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from dcmnet.model.tensor_product import TensorProduct


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


class PairGeometry(NamedTuple):
    """What a message depends on besides the features: e3x's basis, radial and angular apart.

    Attributes:
        radial: Radial basis times the cutoff function.
        angular: Spherical harmonics in Racah's normalisation.
    """

    radial: Float[Array, "P basis"]
    angular: Float[Array, "P degrees"]


def pair_geometry(
    displacements: Float[Array, "P 3"], num_basis_functions: int, max_degree: int, cutoff: float
) -> PairGeometry:
    """Returns reciprocal Bernstein radial functions under a smooth cutoff, and harmonics."""
    distance = e3x.ops.norm(displacements, axis=-1)
    radial = e3x.nn.reciprocal_bernstein(distance, num_basis_functions)
    radial *= e3x.nn.smooth_cutoff(distance, cutoff=cutoff)[:, None]
    directions = displacements / jnp.where(distance > 0, distance, 1)[:, None]
    return PairGeometry(radial, e3x.so3.spherical_harmonics(directions, max_degree))


class ConvolutionFilter(nn.Module):
    """Learned filter of each pair: a dense layer a degree on the radial basis, times harmonics.

    The same as a dense layer on the product of both, at a fraction of the work.

    Attributes:
        features: Features of each degree.
        max_degree: Highest degree.
    """

    features: int
    max_degree: int

    @nn.compact
    def __call__(self, geometry: PairGeometry) -> Float[Array, "P 1 degrees features"]:
        """Returns the filters; there is no bias, so that masked pairs send nothing."""
        radial = [
            nn.Dense(self.features, use_bias=False, name=f"{degree}{'+-'[degree % 2]}")(
                geometry.radial
            )
            for degree in range(self.max_degree + 1)
        ]
        degree_of = np.repeat(np.arange(len(radial)), 2 * np.arange(len(radial)) + 1)
        filters = [
            geometry.angular[:, order, None] * radial[degree]
            for order, degree in enumerate(degree_of)
        ]
        return jnp.stack(filters, axis=1)[:, None]


class MessagePass(nn.Module):
    """One equivariant message pass; parameters and results as ``e3x.nn.MessagePass``.

    Attributes:
        max_degree: Highest degree of the messages.
        include_pseudotensors: Whether messages keep pseudotensors.
    """

    max_degree: int
    include_pseudotensors: bool

    @nn.compact
    def __call__(
        self,
        features: Float[Array, "N parity degrees features"],
        geometry: PairGeometry,
        pair_dst: Int[Array, " P"],
        pair_src: Int[Array, " P"],
    ) -> Float[Array, "N parity2 degrees2 features"]:
        """Returns what each atom receives; the pairs must be sorted by destination."""
        filters = ConvolutionFilter(features.shape[-1], self.max_degree, name="filter")(geometry)
        messages = TensorProduct(self.max_degree, self.include_pseudotensors, name="tensor")(
            filters, features[pair_src]
        )
        return jax.ops.segment_sum(
            messages, pair_dst, num_segments=features.shape[0], indices_are_sorted=True
        )


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
    ) -> Float[Array, "N parity degrees features"]:
        """Returns features of all atoms; the pairs must be sorted by destination."""
        geometry = pair_geometry(
            safe_displacements(positions, pair_dst, pair_src, pair_mask, self.cutoff),
            self.num_basis_functions,
            self.max_degree,
            self.cutoff,
        )
        x = e3x.nn.Embed(num_embeddings=self.max_atomic_number + 1, features=self.features)(
            atomic_numbers
        )
        for iteration in range(self.num_iterations):
            last = iteration == self.num_iterations - 1
            y = MessagePass(
                max_degree=self.max_degree,
                include_pseudotensors=self.include_pseudotensors and not last,
            )(x, geometry, pair_dst, pair_src)
            y = e3x.nn.add(x, y)
            y = e3x.nn.Dense(self.features)(y)
            y = e3x.nn.silu(y)
            y = e3x.nn.Dense(self.features)(y)
            x = e3x.nn.add(x, y)
        return x
