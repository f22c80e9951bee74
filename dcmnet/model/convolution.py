"""Messages between atoms, summed as they are made.

Arrays of all pairs by orders by features are by far the largest of a network, and a
processor waits for memory when it writes and reads them. Here they exist for a block of
pairs only, which stays in the cache of a core; the gradient makes them again, block by
block, instead of keeping them.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from dcmnet.model.blocks import block_size, from_blocks, to_blocks
from dcmnet.model.tensor_product import Irreps, Path, couple, couplings_of

# Numbers that an array of a block of pairs by features has: 128 KB, of which about thirty
# are in use at once.
_BLOCK = 2**15

Kernels: TypeAlias = tuple[Float[Array, "basis features"], ...]
"""What makes the weight of each path from the radial functions."""


class Pairs(NamedTuple):
    """Pairs of atoms and what a message depends on besides the features of its sender.

    Attributes:
        dst: Receiving atoms, ascending.
        src: Sending atoms.
        radial: Radial functions, zero beyond the cutoff.
        angular: Spherical harmonics in Racah's normalisation.
    """

    dst: Int[Array, " P"]
    src: Int[Array, " P"]
    radial: Float[Array, "P basis"]
    angular: Float[Array, "P degrees"]


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def convolve(paths: tuple[Path, ...], kernels: Kernels, features: Irreps, pairs: Pairs) -> Irreps:
    """Returns what each atom receives: the sum over its pairs and all paths.

    Args:
        paths: The paths of the tensor product.
        kernels: One for each path.
        features: Features of the atoms.
        pairs: The pairs.
    """

    def add(received: Irreps, block: Pairs) -> tuple[Irreps, None]:
        messages = _messages(paths, kernels, _at(features, block.src), block)
        return {
            irrep: total.at[block.dst].add(messages[irrep], mode="clip", indices_are_sorted=True)
            for irrep, total in received.items()
        }, None

    of_any = next(iter(features.values()))
    atoms, _, width = of_any.shape
    received = {
        path.message: jnp.zeros((atoms, 2 * path.degrees[2] + 1, width), of_any.dtype)
        for path in paths
    }
    return jax.lax.scan(add, received, _blocks(pairs, features))[0]


def _messages(paths: tuple[Path, ...], kernels: Kernels, sent: Irreps, pairs: Pairs) -> Irreps:
    # Said here, since a gradient is traced outside of what surrounds its function.
    times = functools.partial(jnp.matmul, precision="highest")
    weights = tuple(times(pairs.radial, kernel) for kernel in kernels)
    return couple(paths, weights, couplings_of(pairs.angular, paths), sent)


def _at(irreps: Irreps, atoms: Int[Array, " P"]) -> Irreps:
    return {irrep: part.at[atoms].get(mode="clip") for irrep, part in irreps.items()}


def _blocks(pairs: Pairs, features: Irreps) -> Pairs:
    """Returns the pairs in blocks; the last is filled up with pairs that send nothing."""
    atoms, _, width = next(iter(features.values())).shape
    size = block_size(pairs.dst.shape[0], max(_BLOCK // width, 1))
    return Pairs(
        dst=to_blocks(pairs.dst, size, fill=atoms - 1),
        src=to_blocks(pairs.src, size),
        radial=to_blocks(pairs.radial, size),
        angular=to_blocks(pairs.angular, size),
    )


_Operands: TypeAlias = tuple[Kernels, Irreps, Pairs]


def _convolve_forward(
    paths: tuple[Path, ...], kernels: Kernels, features: Irreps, pairs: Pairs
) -> tuple[Irreps, _Operands]:
    return convolve(paths, kernels, features, pairs), (kernels, features, pairs)


def _convolve_backward(
    paths: tuple[Path, ...], operands: _Operands, cotangents: Irreps
) -> _Operands:
    kernels, features, pairs = operands

    def add(sums: tuple[Kernels, Irreps], block: Pairs) -> tuple[tuple[Kernels, Irreps], Any]:
        d_kernels, d_features = sums
        sent = _at(features, block.src)
        _, back = jax.vjp(functools.partial(_messages, paths), kernels, sent, block)
        of_block, d_sent, d_pairs = back(_at(cotangents, block.dst))
        d_kernels = jax.tree.map(jnp.add, d_kernels, of_block)
        d_features = {
            irrep: total.at[block.src].add(d_sent[irrep], mode="clip")
            for irrep, total in d_features.items()
        }
        return (d_kernels, d_features), (d_pairs.radial, d_pairs.angular)

    zeros = jax.tree.map(jnp.zeros_like, (kernels, features))
    sums, along = jax.lax.scan(add, zeros, _blocks(pairs, features))
    d_radial, d_angular = (from_blocks(part, pairs.dst.shape[0]) for part in along)
    none: Any = None  # of whole numbers
    return *sums, Pairs(none, none, d_radial, d_angular)


convolve.defvjp(_convolve_forward, _convolve_backward)
