"""Shards read chunk by chunk, beside what zarr reads."""

import os

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from zarr.codecs import BloscCodec, ZstdCodec

from pipeline.loader.shards import ShardedArray

LENGTHS = (70, 23)


def write(folder, *, shards=(32, 24, 3), compressors=None, chunks=(8, 10, 3)):
    """An array of two axes that are cut and one that is not, with a hole and long padding."""
    array = zarr.create_array(
        folder,
        shape=(*LENGTHS, 3),
        chunks=chunks,
        shards=shards,
        dtype=np.float32,
        fill_value=np.nan,
        compressors=compressors,
        config={"write_empty_chunks": False},
    )
    values = np.random.default_rng(0).normal(size=array.shape).astype(np.float32)
    values[32:64] = np.nan  # a shard that does not exist
    values[:, 20:] = np.nan  # chunks that do not exist in the others
    array[:] = values
    return values


BLOSC = BloscCodec(cname="lz4", clevel=5, shuffle="noshuffle")


@pytest.fixture(scope="module", params=[BLOSC, None], ids=["compressed", "plain"])
def written(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("array") / "a"
    return folder, write(folder, shards=(32, 30, 3), compressors=request.param)


@settings(max_examples=40)
@given(
    first=st.integers(0, LENGTHS[0] - 1),
    length=st.integers(1, LENGTHS[0]),
    width=st.integers(1, LENGTHS[1]),
)
def test_a_run_of_rows_is_what_was_written(written, first, length, width):
    folder, values = written
    rows = slice(first, min(LENGTHS[0], first + length))
    target = np.zeros((rows.stop - rows.start, LENGTHS[1], 3), np.float32)
    ShardedArray.open(folder).read(rows, target[:, :width])
    np.testing.assert_array_equal(target[:, :width], values[rows, :width])
    assert not target[:, width:].any()


@settings(max_examples=40)
@given(rows=st.sets(st.integers(0, LENGTHS[0] - 1), min_size=1), width=st.integers(1, LENGTHS[1]))
def test_single_rows_are_what_was_written(written, rows, width):
    folder, values = written
    chosen = np.array(sorted(rows))
    target = np.empty((len(chosen), width, 3), np.float32)
    ShardedArray.open(folder).read(chosen, target)
    np.testing.assert_array_equal(target, values[chosen, :width])


def test_one_reader_reads_again_and_again(written):
    folder, values = written
    array = ShardedArray.open(folder)
    for first, width in [(0, 23), (60, 5), (30, 23), (0, 11)]:
        target = np.empty((10, width, 3), np.float32)
        array.read(slice(first, first + 10), target)
        np.testing.assert_array_equal(target, values[first : first + 10, :width])


@pytest.mark.parametrize(
    "layout",
    [
        {"shards": None},
        {"compressors": ZstdCodec()},
        {"compressors": (BLOSC, ZstdCodec())},
        {"shards": (32, 10, 3)},  # shards cut along the second axis
    ],
)
def test_other_layouts_are_left_to_tensorstore(tmp_path, layout):
    write(tmp_path / "a", **({"shards": (32, 30, 3)} | layout))
    assert ShardedArray.open(tmp_path / "a") is None


def first_shard(folder):
    return folder / "c" / "0" / "0" / "0"


def read_all(folder):
    target = np.empty((*LENGTHS, 3), np.float32)
    ShardedArray.open(folder).read(slice(0, LENGTHS[0]), target)


@pytest.mark.parametrize("length", [0, 3, 50, 4000])
def test_a_shard_cut_short_is_an_error(written, tmp_path, length):
    folder = tmp_path / "a"
    write(folder, shards=(32, 30, 3), compressors=BLOSC)
    os.truncate(first_shard(folder), length)
    with pytest.raises(ValueError, match="checksum"):
        read_all(folder)


def test_a_chunk_with_another_header_is_an_error(tmp_path):
    folder = tmp_path / "a"
    write(folder, shards=(32, 30, 3), compressors=BLOSC)
    shard = bytearray(first_shard(folder).read_bytes())
    shard[4] ^= 8  # the size of the data, of the chunk that begins here
    first_shard(folder).write_bytes(shard)
    with pytest.raises(ValueError, match="another size"):
        read_all(folder)


def test_files_are_closed_when_the_array_is_gone(written):
    folder, _ = written
    before = len(os.listdir("/proc/self/fd"))
    read_all(folder)
    assert len(os.listdir("/proc/self/fd")) == before
