"""Shards read chunk by chunk, beside what zarr reads."""

import errno
import os
import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from zarr.codecs import BloscCodec, BytesCodec, ZstdCodec

from pipeline.loader import make_loader
from pipeline.store.shard_reader import ShardedArray
from tests.stores import random_columns, write_store

LENGTHS = (70, 23)


def write(folder, *, shards=(32, 24, 3), chunks=(8, 10, 3), **codecs):
    """An array of two axes that are cut and one that is not, with a hole and long padding."""
    array = zarr.create_array(
        folder,
        shape=(*LENGTHS, 3),
        chunks=chunks,
        shards=shards,
        dtype=np.float32,
        fill_value=np.nan,
        config={"write_empty_chunks": False},
        **({"compressors": None} | codecs),
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


@pytest.fixture
def cold(monkeypatch):
    """No chunk is in the page cache; returns what the system was asked for ahead."""
    preadv, asked = os.preadv, []

    def from_disk_only(descriptor, buffers, offset, flags=0):
        if flags:
            raise BlockingIOError(errno.EAGAIN, "not in memory")
        return preadv(descriptor, buffers, offset)

    monkeypatch.setattr(os, "preadv", from_disk_only)
    monkeypatch.setattr(os, "posix_fadvise", lambda *advice: asked.append(advice[1:3]))
    return asked


def test_what_is_not_in_memory_comes_from_the_disk(written, cold):
    folder, values = written
    array = ShardedArray.open(folder)
    target = np.empty((10, *values.shape[1:]), np.float32)
    array.read(slice(0, 10), target)
    np.testing.assert_array_equal(target, values[:10])
    assert array.waits
    array.ask_for_indices(slice(0, 40))
    array.ask_for(slice(0, 40), (23, 3))
    # One index and the chunks of its four rows, two of three being more than padding.
    assert len(cold) == 1 + 4 * 2
    size = first_shard(folder).stat().st_size
    assert all(0 <= start < start + length <= size for start, length in cold)


def test_batches_from_the_disk_are_those_from_memory(tmp_path, cold, monkeypatch):
    rng = np.random.default_rng(0)
    store = write_store(
        tmp_path / "s.zarr",
        random_columns(rng, rng.integers(1, 6, 900), rng.integers(4, 30, 900)),
    )
    batches = list(make_loader(store, batch_size=64, split="all", num_epochs=1))
    assert cold
    monkeypatch.undo()
    again = list(make_loader(store, batch_size=64, split="all", num_epochs=1))
    for one, other in zip(batches, again, strict=True):
        for first, second in zip(one, other, strict=True):
            np.testing.assert_array_equal(first, second)


def test_threads_do_not_get_each_others_rows(written):
    folder, values = written
    array = ShardedArray.open(folder)

    def read(first):
        target = np.empty((5, *values.shape[1:]), np.float32)
        array.read(slice(first, first + 5), target)
        return first, target

    with ThreadPoolExecutor(4) as pool:
        for first, target in pool.map(read, [0, 8, 24, 65] * 100):
            np.testing.assert_array_equal(target, values[first : first + 5])


def test_another_process_opens_its_own_files(written):
    folder, values = written
    array = ShardedArray.open(folder)
    target = np.empty((5, *values.shape[1:]), np.float32)
    array.read(slice(0, 5), target)
    copy = pickle.loads(pickle.dumps(array))
    del array
    copy.read(slice(0, 5), target)
    np.testing.assert_array_equal(target, values[:5])


@pytest.mark.parametrize("compressors", [None, BLOSC])
def test_another_order_of_bytes_is_left_to_tensorstore(tmp_path, compressors):
    """Read as they lie they would be other numbers."""
    order = BytesCodec(endian="big")
    write(tmp_path / "a", shards=(32, 30, 3), compressors=compressors, serializer=order)
    assert ShardedArray.open(tmp_path / "a") is None


def test_more_than_there_is_is_refused(written):
    """The target may be memory that holds something else."""
    with pytest.raises(ValueError, match="rows are"):
        ShardedArray.open(written[0]).read(slice(0, 2), np.empty((2, LENGTHS[1] + 1, 3), "f4"))
