"""Reads an array of a store on this machine chunk by chunk, in the layout ingest writes.

TensorStore reads any layout anywhere. For each chunk it also opens and maps the file,
asks for the shard's index and hands over from thread to thread, which takes as long as
decoding: where batches are made at the speed of memory, that is the larger part.
Here a chunk is one read and one decoding, both outside the interpreter lock.
"""

from __future__ import annotations

import errno
import math
import os
import struct
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, Final

import google_crc32c
import numpy as np
from jaxtyping import Int64, Shaped, UInt64
from numcodecs import blosc
from zarr.codecs import BloscCodec, BytesCodec, Crc32cCodec, ShardingCodec
from zarr.core.metadata import ArrayV3Metadata

from pipeline.store.metadata import METADATA_FILE, array_node_of

# Sharding codec of Zarr v3: the offset of a chunk that is not there.
_ABSENT: Final = 2**64 - 1
_CHECKSUM_BYTES: Final = 4
# Header of Blosc 1: at byte 4 the size of the data, at byte 12 that of the whole chunk.
_BLOSC_SIZES: Final = struct.Struct("<4xI4xI")
# Shards of an array that are open at a time; a process may have 256 files on some systems.
_OPEN_SHARDS: Final = 16
# Only what memory holds already; Linux has it, elsewhere nothing is asked for ahead.
_NOWAIT: Final = getattr(os, "RWF_NOWAIT", 0)

_Slices = tuple[slice, ...]
Opener = Callable[[str, int], int]
"""Returns the descriptor of a file, as `os.open` does."""


class ShardedArray:
    """An array whose shards lie in a folder; threads take turns.

    Attributes:
        shape: Shape.
        waits: Whether the last chunk had to come from the disk.
    """

    def __init__(
        self, folder: Path, opener: Opener, metadata: ArrayV3Metadata, sharding: ShardingCodec
    ) -> None:
        """Takes what `open` found."""
        shard = metadata.shards
        assert shard is not None  # as there is a sharding codec
        self.shape = metadata.shape
        self._folder, self._opener = folder, opener
        self._shard_key = metadata.encode_chunk_key
        self._fill_value = metadata.fill_value
        self._chunk = sharding.chunk_shape
        self._chunks = tuple(a // b for a, b in zip(shard, self._chunk, strict=True))
        self._is_compressed = len(sharding.codecs) > 1
        self._decoded = np.empty(self._chunk, metadata.dtype.to_native_dtype())
        self._encoded = self._decoded.reshape(-1).view(np.uint8)
        if self._is_compressed:
            self._encoded = np.empty(0, np.uint8)
        self._shards: dict[int, _Shard | None] = {}
        self._turn = threading.Lock()  # iterators of one loader share its arrays
        self.waits = False

    def __reduce__(self) -> tuple[Any, ...]:
        """Opens the array anew in another process, which has none of these files open."""
        return ShardedArray.open, (self._folder, self._opener)

    @classmethod
    def open(cls, folder: Path, opener: Opener = os.open) -> ShardedArray | None:
        """Opens an array; returns None if its layout is another than ingest's.

        Args:
            folder: Folder of the array.
            opener: Opens files there.
        """
        with open(folder / METADATA_FILE, opener=opener) as file:
            node = array_node_of(file.read(), folder)
        try:
            metadata = ArrayV3Metadata.from_dict(node.document())
        except Exception as error:  # zarr raises many kinds for what it does not know
            raise ValueError(f"the metadata of {folder} are damaged: {error}") from error
        if len(metadata.codecs) != 1:
            return None
        (sharding,) = metadata.codecs
        if not isinstance(sharding, ShardingCodec) or sharding.index_location.value != "end":
            return None
        codecs, index_codecs = (
            [type(codec) for codec in chain] for chain in (sharding.codecs, sharding.index_codecs)
        )
        is_known = codecs in ([BytesCodec], [BytesCodec, BloscCodec])
        orders = {
            codec.endian.value
            for codec in (*sharding.codecs, *sharding.index_codecs)
            if isinstance(codec, BytesCodec) and codec.endian is not None
        }
        is_whole = metadata.shards is not None and all(
            length <= shard
            for length, shard in zip(metadata.shape[1:], metadata.shards[1:], strict=True)
        )
        is_native = orders <= {"little"} and sys.byteorder == "little"
        is_checked = index_codecs == [BytesCodec, Crc32cCodec]
        if not (is_known and is_whole and is_native and is_checked):
            return None
        return cls(folder, opener, metadata, sharding)

    def read(
        self, selection: slice | Int64[np.ndarray, " n"], target: Shaped[np.ndarray, "n ..."]
    ) -> None:
        """Reads rows.

        Args:
            selection: Rows, ascending.
            target: Where they go; of each so much is read as it is wide.

        Raises:
            ValueError: A shard or a chunk is damaged, or rows are not as wide as the target.
            OSError: It cannot be read.
        """
        if any(a > b for a, b in zip(target.shape[1:], self.shape[1:], strict=True)):
            raise ValueError(f"rows are {self.shape[1:]}, not {target.shape[1:]}")
        with self._turn:
            for chunk, taken, goal in self._parts(selection):
                self._read_chunks(chunk, taken, target[goal])

    def files(self, rows: Int64[np.ndarray, " n"]) -> list[Path]:
        """Returns the shards that hold rows."""
        numbers = np.unique(rows // (self._chunk[0] * self._chunks[0]))
        return [self._path(number) for number in numbers.tolist()]

    def ask_for_indices(self, selection: slice | Int64[np.ndarray, " n"]) -> None:
        """Has the system bring the indices of shards that `ask_for` will look at.

        Args:
            selection: Rows, ascending.

        Raises:
            OSError: A shard cannot be read.
        """
        with self._turn:
            for number in {chunk // self._chunks[0] for chunk, _, _ in self._parts(selection)}:
                if shard := self._shard(number):
                    shard.ask_for_index()

    def ask_for(self, selection: slice | Int64[np.ndarray, " n"], widths: tuple[int, ...]) -> None:
        """Has the system bring chunks that `read` will read from the disk meanwhile.

        Args:
            selection: Rows, ascending.
            widths: How much of each is read.

        Raises:
            ValueError: A shard is damaged.
            OSError: It cannot be read.
        """
        boxes = _boxes(self._chunk[1:], self._chunks[1:], widths)
        with self._turn:
            for chunk, _, _ in self._parts(selection):
                number, row = divmod(chunk, self._chunks[0])
                if shard := self._shard(number):
                    chunks = shard.chunks(row)
                    for offset, length in (chunks[place] for place, _, _ in boxes):
                        if offset != _ABSENT:
                            advice = os.POSIX_FADV_WILLNEED
                            os.posix_fadvise(shard.descriptor, offset, length, advice)

    def _parts(
        self, selection: slice | Int64[np.ndarray, " n"]
    ) -> Iterator[tuple[int, Any, slice]]:
        """Yields along the first axis: a chunk, what is taken of it, and where that goes."""
        length = self._chunk[0]
        if isinstance(selection, slice):
            for chunk in range(selection.start // length, -(-selection.stop // length)):
                start, first = chunk * length, selection.start
                a, b = max(first, start), min(selection.stop, start + length)
                yield chunk, slice(a - start, b - start), slice(a - first, b - first)
        else:
            chunks, starts = np.unique(selection // length, return_index=True)
            stops = [*starts[1:], len(selection)]
            for chunk, a, b in zip(chunks.tolist(), starts, stops, strict=True):
                yield chunk, selection[a:b] - chunk * length, slice(a, b)

    def _read_chunks(
        self,
        chunk: int,
        taken: slice | Int64[np.ndarray, " n"],
        target: Shaped[np.ndarray, "n ..."],
    ) -> None:
        """Reads rows of one place on the first axis."""
        number, row = divmod(chunk, self._chunks[0])
        shard = self._shard(number)
        chunks = shard.chunks(row) if shard else None
        for place, there, here in _boxes(self._chunk[1:], self._chunks[1:], target.shape[1:]):
            if shard and chunks and chunks[place][0] != _ABSENT:
                self._decode(shard, *chunks[place])
                target[(slice(None), *there)] = self._decoded[(taken, *here)]
            else:
                target[(slice(None), *there)] = self._fill_value

    def _decode(self, shard: _Shard, offset: int, length: int) -> None:
        """Reads a chunk into memory that the next one overwrites."""
        if self._is_compressed and length > len(self._encoded):
            self._encoded = np.empty(2 * length, np.uint8)
        encoded = self._encoded[:length]
        self.waits = not _read_from_memory(shard, encoded.data, offset)
        if self.waits and os.preadv(shard.descriptor, [encoded.data], offset) != length:
            raise ValueError(f"{shard.path} ends before one of its chunks does")
        size = length
        if self._is_compressed and length >= _BLOSC_SIZES.size:
            size, length = _BLOSC_SIZES.unpack_from(encoded.data)
        if (size, length) != (self._decoded.nbytes, len(encoded)):
            raise ValueError(f"{shard.path} has a chunk of another size")
        if self._is_compressed:
            blosc.decompress(encoded, self._decoded)

    def _path(self, number: int) -> Path:
        return self._folder / self._shard_key((number,) + (0,) * (len(self._chunk) - 1))

    def _shard(self, number: int) -> _Shard | None:
        if number not in self._shards:
            if len(self._shards) == _OPEN_SHARDS:
                del self._shards[next(iter(self._shards))]
            try:
                self._shards[number] = _Shard(self._path(number), self._opener, self._chunks)
            except FileNotFoundError:  # nothing but fill values
                self._shards[number] = None
        return self._shards[number]


@lru_cache(256)
def _boxes(
    chunk: tuple[int, ...], chunks: tuple[int, ...], widths: tuple[int, ...]
) -> list[tuple[int, _Slices, _Slices]]:
    """Lists the chunks of a shard behind the first axis.

    Args:
        chunk: Shape of a chunk there.
        chunks: Chunks of a shard along each axis there.
        widths: How much is read along each; chunks beyond are left out.

    Returns:
        The number of each chunk, where it goes, and what is taken of it.
    """
    boxes = []
    for number, place in enumerate(np.ndindex(*chunks)):
        starts = [p * length for p, length in zip(place, chunk, strict=True)]
        lengths = [
            min(length, width - start)
            for length, width, start in zip(chunk, widths, starts, strict=True)
        ]
        if all(length > 0 for length in lengths):
            there = tuple(slice(a, a + n) for a, n in zip(starts, lengths, strict=True))
            boxes.append((number, there, tuple(map(slice, lengths))))
    return boxes


def _read_from_memory(shard: _Shard, goal: memoryview, offset: int) -> bool:
    """Reads what the page cache holds; returns whether it was all there."""
    try:
        return os.preadv(shard.descriptor, [goal], offset, _NOWAIT) == len(goal)
    except OSError as error:
        if error.errno not in (errno.EAGAIN, errno.EOPNOTSUPP):
            raise
        return False


class _Shard:
    """A shard that is open."""

    def __init__(self, path: Path, opener: Opener, chunks: tuple[int, ...]) -> None:
        self.path, self._chunks = path, chunks
        self.descriptor = opener(str(path), os.O_RDONLY)
        weakref.finalize(self, os.close, self.descriptor)
        self._index_size = 16 * math.prod(chunks) + _CHECKSUM_BYTES
        self._index_start = os.fstat(self.descriptor).st_size - self._index_size

    def ask_for_index(self) -> None:
        """Has the system bring the index, which is looked at later."""
        if self._index_start >= 0:
            at = self._index_start, self._index_size
            os.posix_fadvise(self.descriptor, *at, os.POSIX_FADV_WILLNEED)

    def chunks(self, row: int) -> list[list[int]]:
        """Returns offset and length of the chunks at a place on the first axis.

        Raises:
            ValueError: The index is damaged.
        """
        chunks: list[list[int]] = self._index[row].tolist()
        return chunks

    @cached_property
    def _index(self) -> UInt64[np.ndarray, "row place 2"]:
        index = b""
        if self._index_start >= 0:
            index = os.pread(self.descriptor, self._index_size, self._index_start)
        entries, checksum = index[:-_CHECKSUM_BYTES], index[-_CHECKSUM_BYTES:]
        if len(index) != self._index_size or google_crc32c.value(entries) != int.from_bytes(
            checksum, "little"
        ):
            raise ValueError(f"the index of {self.path} does not have its checksum")
        return np.frombuffer(entries, "<u8").reshape(self._chunks[0], -1, 2)
