"""What is written by TensorStore is what zarr reads, and padding takes no space."""

import numpy as np
import pytest
import zarr

from pipeline.store.layout import create_array
from pipeline.store.table import write_rows
from store_schema import VARIABLES
from store_schema.names import ATOM, GRID_POINT, XYZ

SIZES = {ATOM: 9, GRID_POINT: 1300, XYZ: 3}
SHARD = 512


def created(folder, name, compression="lz4"):
    group = zarr.open_group(folder, mode="a")
    return create_array(
        group,
        VARIABLES[name],
        SIZES,
        shard_molecules=SHARD,
        compression=compression,
        rows=2 * SHARD,
    )


@pytest.mark.parametrize("compression", ["lz4", "uncompressed"])
@pytest.mark.parametrize("name", ["esp", "vdw_surface", "atomic_numbers", "positions", "n_atoms"])
def test_rows_are_those_that_zarr_would_write(name, compression, tmp_path, rng):
    arrays = [created(tmp_path / writer, name, compression) for writer in ("ours", "zarr")]
    widths = tuple(max(1, width - 4) for width in arrays[0].shape[1:])
    for start, rows in ((0, SHARD), (SHARD, 70)):
        values = rng.integers(0, 99, (rows, *widths)).astype(arrays[0].dtype)
        write_rows(arrays[0], tmp_path / "ours" / name, start, values)
        arrays[1][(slice(start, start + rows), *map(slice, widths))] = values
    np.testing.assert_array_equal(arrays[0][:], arrays[1][:])
    sizes = [
        sorted(file.stat().st_size for file in (tmp_path / writer / name / "c").rglob("*"))
        for writer in ("ours", "zarr")
    ]
    assert sizes[0] == sizes[1]


def test_chunks_of_padding_and_shards_of_nothing_do_not_exist(tmp_path):
    array, folder = created(tmp_path, "esp"), tmp_path / "esp"
    write_rows(array, folder, 0, np.full((SHARD, 1300), np.nan, np.float32))
    assert not [file for file in folder.rglob("c/*/*") if file.is_file()]
    values = np.full((SHARD, 1300), np.nan, np.float32)
    values[:, :10] = 1.0
    write_rows(array, folder, 0, values)
    (shard,) = (file for file in folder.rglob("c/*/*") if file.is_file())
    assert shard.stat().st_size < values[:, :512].nbytes
    np.testing.assert_array_equal(array[:SHARD], values)


def test_the_same_rows_are_the_same_bytes(tmp_path, rng):
    """Those of several workers are held against those of one."""
    values = rng.normal(size=(SHARD, 1300)).astype(np.float32)
    written = []
    for folder in ("one", "two", "three"):
        write_rows(created(tmp_path / folder, "esp"), tmp_path / folder / "esp", 0, values)
        written.append((tmp_path / folder / "esp/c/0/0").read_bytes())
    assert written[0] == written[1] == written[2]


def test_text_is_written_too(tmp_path):
    array = created(tmp_path, "molecule_id")
    write_rows(array, tmp_path / "molecule_id", 3, np.array(["CO/0", "é"], object))
    assert list(array[2:6]) == ["", "CO/0", "é", ""]


def test_what_cannot_be_written_is_an_error_of_the_system(tmp_path):
    array = created(tmp_path, "esp")
    (tmp_path / "esp" / "c").write_text("a file where a folder should be")
    with pytest.raises(OSError, match="esp"):
        write_rows(array, tmp_path / "esp", 0, np.ones((SHARD, 5), np.float32))
