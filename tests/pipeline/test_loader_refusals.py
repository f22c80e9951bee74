"""What the loader refuses, and what it cannot read."""

import numpy as np
import pytest

from pipeline.loader import make_loader
from store_schema.problems import ConfigError, StoreError
from tests.stores import random_columns, write_store


@pytest.fixture
def store(tmp_path):
    rng = np.random.default_rng(11)
    return write_store(tmp_path / "s.zarr", random_columns(rng, np.full(9, 3), np.full(9, 5)))


@pytest.mark.parametrize(
    "wrong",
    [
        {"batch_size": 0},
        {"shard": (2, 2)},
        {"fields": ("R",)},
        {"grid_points": 0},
        {"split": "dev"},
    ],
)
def test_meaningless_arguments_are_refused(store, wrong):
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        make_loader(store, **{"batch_size": 8, **wrong})


def test_no_store_is_an_error(tmp_path):
    with pytest.raises(StoreError):
        make_loader(tmp_path / "none.zarr")


def test_a_damaged_chunk_is_an_error_not_a_gap(tmp_path):
    rng = np.random.default_rng(0)
    path = write_store(tmp_path / "s.zarr", random_columns(rng, np.full(70, 4), np.full(70, 9)))
    shard = next(file for file in (path / "esp" / "c").rglob("*") if file.is_file())
    data = bytearray(shard.read_bytes())
    data[-12:] = bytes(12)  # the index of the shard, which has a checksum
    shard.write_bytes(data)
    with pytest.raises(StoreError, match="esp"):
        list(make_loader(path, batch_size=8, split="all", num_epochs=1))


def test_a_shard_that_is_gone_is_an_error_not_a_gap(tmp_path):
    rng = np.random.default_rng(0)
    path = write_store(tmp_path / "s.zarr", random_columns(rng, np.full(70, 4), np.full(70, 9)))
    for shard in (path / "positions" / "c").rglob("*"):
        if shard.is_file():
            shard.unlink()
    with pytest.raises(StoreError, match="positions of every molecule"):
        list(make_loader(path, batch_size=8, split="all", num_epochs=1))
