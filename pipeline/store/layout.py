"""How arrays are cut into chunks and shards, and compressed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final, Literal

import numpy as np
import zarr
from zarr.codecs import BloscCodec

from store_schema.names import ATOM, GRID_POINT, MOLECULE, QUARANTINE_DIMENSIONS, Variable

# The loader reads blocks of this many molecules; every chunk holds a whole part of them.
MOLECULES_PER_BLOCK: Final = 256

# Short enough that a chunk which holds only padding is often met, and left out.
_CHUNK: Final = {MOLECULE: MOLECULES_PER_BLOCK, ATOM: 32, GRID_POINT: 512}
CHUNK_LENGTH: Final = {
    **_CHUNK,
    **{QUARANTINE_DIMENSIONS[dim]: length for dim, length in _CHUNK.items()},
}
# Chunks of the grid stay within a megabyte, about what a core's own cache holds. All
# else is small compared with the cost of asking for a chunk, and comes a block at once.
_GRID_MOLECULES: Final = 128

_SMALL_CHUNK_BYTES: Final = 2**20

MAX_SHARD_BYTES: Final = 128 * 2**20
MAX_MOLECULES_PER_SHARD: Final = 2048

Compression = Literal["lz4", "uncompressed"]


def itemsize(variable: Variable) -> int:
    """Returns the bytes of one value; an estimate for text."""
    return 16 if variable.dtype == "str" else np.dtype(variable.dtype).itemsize


def chunk_shape(variable: Variable, sizes: Mapping[str, int]) -> tuple[int, ...]:
    """Returns the inner chunk of a variable; short axes stay whole."""
    molecules, *rest = (CHUNK_LENGTH.get(dim) or max(1, sizes[dim]) for dim in variable.dims)
    if {GRID_POINT, QUARANTINE_DIMENSIONS[GRID_POINT]} & {*variable.dims}:
        molecules = _GRID_MOLECULES
    return (molecules, *rest)


def long_shard_axes(variable: Variable, sizes: Mapping[str, int]) -> tuple[int, ...]:
    """Returns the shard's lengths behind the first axis: everything, in whole chunks."""
    chunk = chunk_shape(variable, sizes)
    return tuple(
        length * max(1, math.ceil(sizes[dim] / length))
        for dim, length in zip(variable.dims[1:], chunk[1:], strict=True)
    )


def molecules_per_shard(variables: tuple[Variable, ...], sizes: Mapping[str, int]) -> int:
    """Returns how many molecules a shard holds, for all variables alike.

    The largest power of two times a block with which the widest variable's shard
    stays within ``MAX_SHARD_BYTES``.
    """
    widest = max(itemsize(v) * math.prod(long_shard_axes(v, sizes)) for v in variables)
    molecules = MAX_MOLECULES_PER_SHARD
    while molecules > MOLECULES_PER_BLOCK and molecules * widest > MAX_SHARD_BYTES:
        molecules //= 2
    return molecules


def create_array(
    group: zarr.Group,
    variable: Variable,
    sizes: Mapping[str, int],
    *,
    shard_molecules: int,
    compression: Compression,
    rows: int = 0,
) -> zarr.Array:
    """Creates the empty array of a variable.

    Args:
        group: Where it belongs.
        variable: Name, dimensions, type and unit.
        sizes: Length of each dimension but the first.
        shard_molecules: Molecules per shard.
        compression: ``lz4`` (by Blosc) or ``uncompressed``.
        rows: Molecules, where it is known before; without, it grows.
    """
    return _create(
        group,
        variable,
        (rows, *(sizes[dim] for dim in variable.dims[1:])),
        compression,
        chunks=chunk_shape(variable, sizes),
        shards=(shard_molecules, *long_shard_axes(variable, sizes)),
    )


def create_small_array(
    group: zarr.Group,
    variable: Variable,
    sizes: Mapping[str, int],
    rows: int,
    compression: Compression,
) -> zarr.Array:
    """Creates the empty array of a variable that is written and read as a whole.

    It has few numbers per molecule, so that its chunks hold many, and no shards.

    Args:
        group: Where it belongs.
        variable: Name, dimensions, type and unit.
        sizes: Length of each dimension but the first.
        rows: Molecules.
        compression: ``lz4`` (by Blosc) or ``uncompressed``.
    """
    widths = tuple(sizes[dim] for dim in variable.dims[1:])
    molecules = max(1, min(rows, _SMALL_CHUNK_BYTES // (itemsize(variable) * math.prod(widths))))
    return _create(group, variable, (rows, *widths), compression, chunks=(molecules, *widths))


def _create(
    group: zarr.Group,
    variable: Variable,
    shape: tuple[int, ...],
    compression: Compression,
    *,
    chunks: tuple[int, ...],
    shards: tuple[int, ...] | None = None,
) -> zarr.Array:
    # Shuffled bytes would make a real ESP a tenth smaller, and its decoding eight times
    # slower. What compresses well is padding.
    codec = BloscCodec(cname="lz4", clevel=5, shuffle="noshuffle")
    return group.create_array(
        variable.name,
        shape=shape,
        chunks=chunks,
        shards=shards,
        dtype=str if variable.dtype == "str" else variable.dtype,
        fill_value=variable.fill_value,
        compressors=codec if compression == "lz4" else None,
        dimension_names=variable.dims,
        attributes={"units": variable.unit, "description": variable.description},
        config={"write_empty_chunks": False},
    )
