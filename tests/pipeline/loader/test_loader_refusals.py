"""What the loader refuses, and what it cannot read."""

import shutil

import numpy as np
import pytest
import zarr

from pipeline.loader import make_loader
from store_schema.problems import CheckpointError, ConfigError, StoreError
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
        {"cutoff": 0.0},
        {"cutoff": -4.0},
        {"cutoff": float("nan")},
        {"cutoff": float("inf")},
        {"max_shapes": 0},
        {"passes": 0},
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


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("atomic_numbers", "lack the element of an atom"),
        ("n_atoms", "1 to 4"),
        ("positions", "lack the place of an atom"),
    ],
)
def test_a_shard_that_is_gone_is_an_error_not_a_gap(tmp_path, name, told):
    rng = np.random.default_rng(0)
    path = write_store(tmp_path / "s.zarr", random_columns(rng, np.full(70, 4), np.full(70, 9)))
    shutil.rmtree(path / name / "c")
    with pytest.raises(StoreError, match=f"{name}.*{told}"):
        list(make_loader(path, batch_size=8, split="all", num_epochs=1))


@pytest.mark.parametrize(
    ("name", "value"), [("n_atoms", 5), ("n_grid", 10), ("n_grid", -1), ("n_atoms", 0)]
)
def test_sizes_that_arrays_do_not_have_are_refused(tmp_path, name, value):
    """Memory beyond what was read holds other molecules."""
    rng = np.random.default_rng(0)
    path = write_store(tmp_path / "s.zarr", random_columns(rng, np.full(7, 4), np.full(7, 9)))
    zarr.open_array(path / name, mode="r+")[3] = value
    with pytest.raises(StoreError, match=rf"{name}.*such as row 3 \({value}\)"):
        make_loader(path, batch_size=8, split="all")


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_an_atom_without_a_place_is_refused_by_its_molecule(tmp_path, value):
    rng = np.random.default_rng(0)
    path = write_store(tmp_path / "s.zarr", random_columns(rng, np.full(7, 4), np.full(7, 9)))
    zarr.open_array(path / "positions", mode="r+")[5, 2, 1] = value
    with pytest.raises(StoreError, match="1 rows lack the place of an atom, such as row 5;"):
        list(make_loader(path, batch_size=8, split="all", num_epochs=1))


@pytest.mark.parametrize(
    "state", [{"epoch": 0, "step": -3}, {"epoch": -1, "step": 0}, {"epoch": 0}, {"step": 1}, {}]
)
def test_what_is_no_state_is_refused(store, state):
    batches = iter(make_loader(store, batch_size=3, split="all"))
    with pytest.raises(CheckpointError):
        batches.set_state(state)
    with pytest.raises(CheckpointError, match="a batch of it below 3"):
        batches.set_state(batches.get_state() | {"step": 3})
    assert len(list(make_loader(store, batch_size=3, split="all", num_epochs=1))) == 3
