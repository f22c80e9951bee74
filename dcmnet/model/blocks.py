"""A long axis, worked through block by block: what is made of a block stays in the cache.

A processor is fastest that way; a card, which has thousands of threads to keep busy, where
it works on everything at once.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
from jaxtyping import Array, Shaped

# Of an axis: a number, or the symbol that stands for it in an exported program.
Length: TypeAlias = int | Any


def all_at_once() -> bool:
    """Says whether what is being compiled is for a card, which takes no blocks."""
    return jax.default_backend() != "cpu"


def block_size(length: Length, most: int) -> Length:
    """Returns the size of a block: as few blocks as ``most`` allows, all alike.

    Args:
        length: Entries of the axis that is cut. Of a symbol, a block has the most.
        most: Entries that a block may have on a processor. A card takes all at once.
    """
    if not isinstance(length, int):
        return length if all_at_once() else most
    count = 1 if all_at_once() else max(-(-length // most), 1)
    return max(-(-length // count), 1)  # of nothing, there is one block


def to_blocks(
    array: Shaped[Array, "..."], size: Length, axis: int = 0, fill: Any = 0
) -> Shaped[Array, "..."]:
    """Returns an array with blocks of an axis as a new first axis.

    Args:
        array: The array.
        size: Entries of a block; the last one is filled up.
        axis: The axis that is cut.
        fill: What fills it up.
    """
    length = array.shape[axis]
    count = -(-length // size)
    padding = [(0, 0)] * array.ndim
    padding[axis] = (0, count * size - length)
    padded = jnp.pad(array, padding, constant_values=fill)
    cut = padded.reshape(*array.shape[:axis], count, size, *array.shape[axis + 1 :])
    return jnp.moveaxis(cut, axis, 0)


def from_blocks(
    blocks: Shaped[Array, "..."], length: Length, axis: int = 0
) -> Shaped[Array, "..."]:
    """Returns what ``to_blocks`` was given, its axis of a length."""
    count, *shape = blocks.shape
    joined = jnp.moveaxis(blocks, 0, axis)
    shape[axis] *= count
    return joined.reshape(shape)[(slice(None),) * axis + (slice(length),)]
