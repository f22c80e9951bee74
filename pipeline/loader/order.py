"""The order of an epoch's molecules, any stretch of it without the rest.

An epoch of a hundred million molecules is never laid out in memory: blocks of the
store are shuffled, which are few, and what a window needs of the order and of chance is
found by its place.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int, Int64


@dataclass(frozen=True)
class Blocks:
    """Stretches of the planned molecules that lie in one block of the store each.

    Attributes:
        starts: First molecule of each.
        lengths: Molecules of each, one at least.
    """

    starts: Int64[np.ndarray, " block"]
    lengths: Int64[np.ndarray, " block"]

    @classmethod
    def of(cls, rows: Int[np.ndarray, " n"], block_size: int) -> Blocks:
        """Cuts molecules into blocks.

        Args:
            rows: Rows of the store, ascending.
            block_size: Rows per block.
        """
        if not len(rows):
            return cls(np.zeros(0, np.int64), np.zeros(0, np.int64))
        first, last = int(rows[0]) // block_size, int(rows[-1]) // block_size
        edges = np.arange(first, last + 1) * block_size
        # In the rows' own type, or they would be copied into a wider one.
        starts = np.searchsorted(rows, edges.astype(rows.dtype))
        lengths = np.diff(starts, append=len(rows))
        return cls(starts[lengths > 0], lengths[lengths > 0])


class EpochOrder:
    """Order and chance of one epoch."""

    def __init__(self, blocks: Blocks, seed: tuple[int, int], shuffle: bool) -> None:
        """Shuffles the blocks.

        Args:
            blocks: Blocks of the planned molecules.
            seed: Seed and epoch.
            shuffle: False keeps blocks in their order, and chance out.
        """
        rng = np.random.default_rng(seed)
        if shuffle:
            order = np.argsort(rng.permutation(len(blocks.starts)))
            blocks = Blocks(blocks.starts[order], blocks.lengths[order])
        self._ends = np.cumsum(blocks.lengths)
        # Of a molecule less its place in the order, which is the same all over a block.
        self._offsets = blocks.starts - (self._ends - blocks.lengths)
        self._shuffle, self._chance = shuffle, rng.bit_generator

    def stretch(self, first: int, stop: int) -> Int64[np.ndarray, " n"]:
        """Returns the molecules from one place of the order up to another."""
        first_block = int(np.searchsorted(self._ends, first, side="right"))
        last_block = int(np.searchsorted(self._ends, stop, side="left")) + 1
        ends = np.clip(self._ends[first_block:last_block], first, stop)
        lengths = np.diff(ends, prepend=first)
        return np.repeat(self._offsets[first_block:last_block], lengths) + np.arange(first, stop)

    def chance(self, first: int, n: int) -> Float64[np.ndarray, " n"]:
        """Returns n random numbers of [0, 1), from one place of the epoch's stream on."""
        if not self._shuffle:
            return np.zeros(n)
        bits = copy.deepcopy(self._chance)
        # A number takes one step of the generator.
        return np.random.Generator(bits.advance(first)).random(n)  # type: ignore[attr-defined]
