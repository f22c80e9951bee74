"""Equivariant message passing over atoms within a cutoff (e3x)."""

from __future__ import annotations

import functools

import e3x
import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int


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
        basis = e3x.nn.basis(
            safe_displacements(positions, pair_dst, pair_src, pair_mask, self.cutoff),
            num=self.num_basis_functions,
            max_degree=self.max_degree,
            radial_fn=e3x.nn.reciprocal_bernstein,
            cutoff_fn=functools.partial(e3x.nn.smooth_cutoff, cutoff=self.cutoff),
        )
        # A basis bias would let masked pairs send messages; the published network has none.
        x = e3x.nn.Embed(num_embeddings=self.max_atomic_number + 1, features=self.features)(
            atomic_numbers
        )
        for iteration in range(self.num_iterations):
            last = iteration == self.num_iterations - 1
            y = e3x.nn.MessagePass(
                max_degree=self.max_degree,
                include_pseudotensors=self.include_pseudotensors and not last,
            )(x, basis, dst_idx=pair_dst, src_idx=pair_src, indices_are_sorted=True)
            y = e3x.nn.add(x, y)
            y = e3x.nn.Dense(self.features)(y)
            y = e3x.nn.silu(y)
            y = e3x.nn.Dense(self.features)(y)
            x = e3x.nn.add(x, y)
        return x
