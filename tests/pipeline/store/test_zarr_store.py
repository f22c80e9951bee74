"""The store as written: what comes back, what takes no space, and what is visible when."""

from __future__ import annotations

import json
import shutil
import warnings

import numpy as np
import pytest
import xarray as xr
import zarr

from pipeline import open_store, read_schema
from pipeline.store.layout import MAX_SHARD_BYTES, MOLECULES_PER_BLOCK, molecules_per_shard
from pipeline.store.metadata import write_node
from pipeline.store.molecules import StoreWriter
from pipeline.store.results import write_results
from store_schema import VARIABLES
from store_schema.names import ATOM, GRID_POINT, XYZ
from store_schema.problems import StoreError
from tests.pipeline.store.store_case import (
    NAMES,
    assert_holds,
    digest,
    molecules,
    schema,
    write,
)


@pytest.mark.parametrize("compression", ["lz4", "uncompressed"])
@pytest.mark.parametrize("block", [7, 64, 1000])
def test_what_is_written_reads_back(tmp_path, block, compression):
    values = molecules(0, 150, 40, 600)
    store = tmp_path / "a.zarr"
    write(store, values, block, compression=compression)
    assert_holds(store, values)
    assert [path.name for path in tmp_path.iterdir()] == ["a.zarr"]


def test_xarray_opens_it_without_a_warning(tmp_path):
    values = molecules(1, 70, 12, 530)
    write(tmp_path / "a.zarr", values)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        flat = xr.open_zarr(tmp_path / "a.zarr")
        tree = xr.open_datatree(tmp_path / "a.zarr", engine="zarr")
    xr.testing.assert_identical(flat.load(), tree.to_dataset().load())
    assert list(flat.coords) == ["molecule_id"]
    assert flat.esp.attrs == {
        "units": "hartree/e",
        "description": VARIABLES["esp"].description,
    }
    means = [values["esp"][i, :n].mean() for i, n in enumerate(values["n_grid"])]
    np.testing.assert_allclose(flat.esp.mean("grid_point"), means, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(
        flat.monopoles.sum("atom"), np.nansum(values["monopoles"], axis=1), rtol=1e-5, atol=1e-6
    )


def test_chunks_that_hold_only_padding_do_not_exist(tmp_path):
    values = molecules(2, 130, 30, 500)
    wide = {
        name: array
        if array.ndim == 1
        else np.pad(
            array,
            [(0, 0), (0, 3000 if name in ("esp", "vdw_surface") else 90)]
            + [(0, 0)] * (array.ndim - 2),
            constant_values=VARIABLES[name].fill_value,
        )
        for name, array in values.items()
    }
    write(tmp_path / "trim.zarr", values)
    write(tmp_path / "wide.zarr", wide)
    for name in ("positions", "esp", "vdw_surface"):
        sizes = [
            sum(p.stat().st_size for p in (tmp_path / store / name / "c").rglob("*") if p.is_file())
            for store in ("trim.zarr", "wide.zarr")
        ]
        array = zarr.open_array(tmp_path / "wide.zarr" / name, mode="r")
        index_entries = np.prod(np.divide(array.shards, array.chunks))
        assert sizes[1] - sizes[0] < 16 * index_entries  # an absent chunk is 16 bytes of index
    assert_holds(tmp_path / "wide.zarr", values)


def test_a_missing_variable_takes_no_file(tmp_path):
    values = molecules(3, 10, 5, 20)
    values["monopoles"][:] = np.nan
    write(tmp_path / "a.zarr", values)
    assert not (tmp_path / "a.zarr" / "monopoles" / "c").exists()
    assert np.isnan(open_store(tmp_path / "a.zarr")["monopoles"]).all()


def test_shards_stay_below_the_limit_and_share_their_molecules():
    variables = tuple(VARIABLES[name] for name in NAMES)
    for atoms, grid in [(5, 20), (60, 3200), (60, 5346), (300, 40000)]:
        molecules_ = molecules_per_shard(variables, {ATOM: atoms, GRID_POINT: grid, XYZ: 3})
        assert molecules_ % MOLECULES_PER_BLOCK == 0
        assert molecules_ * (grid // 512 + 1) * 512 * 12 <= MAX_SHARD_BYTES


def test_identical_input_gives_identical_bytes(tmp_path):
    values = molecules(4, 100, 20, 700)
    write(tmp_path / "a.zarr", values, block=13)
    write(tmp_path / "b.zarr", values, block=64)
    assert digest(tmp_path / "a.zarr") == digest(tmp_path / "b.zarr")


def test_append_extends_every_axis(tmp_path, monkeypatch):
    monkeypatch.setattr("pipeline.store.layout.MAX_MOLECULES_PER_SHARD", MOLECULES_PER_BLOCK)
    first, second = molecules(5, 300, 20, 500), molecules(6, 250, 90, 1500)
    third = molecules(7, 30, 6, 80)
    del third["energy"]
    store = tmp_path / "a.zarr"
    write(store, first)
    write_results(store, "run", xr.Dataset({"esp_rmse": ("molecule", np.arange(300.0))}))
    before = digest(store)
    write(store, second, append=True)
    write(store, third, append=True)
    assert_holds(store, first, second, {k: v for k, v in third.items() if k != "energy"})
    assert np.isnan(open_store(store)["energy"][550:]).all()
    rmse = open_store(store)["results/run/esp_rmse"].to_numpy()
    np.testing.assert_array_equal(rmse[:300], np.arange(300.0))
    assert np.isnan(rmse[300:]).all()
    assert read_schema(store).n_molecules == 580
    whole = {p for p in before if p.endswith(("c/0", "c/0/0", "c/0/0/0"))}
    assert whole
    assert all(digest(store)[path] == before[path] for path in whole)


@pytest.mark.parametrize("compression", ["lz4", "uncompressed"])
def test_an_append_keeps_the_layout_of_the_store(tmp_path, monkeypatch, compression):
    """Metadata that is published already cannot change: other shards would be unreadable."""
    first, second = molecules(5, 100, 20, 500), molecules(6, 90, 9, 700)
    with monkeypatch.context() as patch:
        patch.setattr("pipeline.store.layout._GRID_MOLECULES", 64)
        write(tmp_path / "a.zarr", first, compression=compression)
    write(tmp_path / "a.zarr", second, append=True)
    assert_holds(tmp_path / "a.zarr", first, second)


def test_append_brings_new_variables(tmp_path):
    first, second = molecules(8, 70, 9, 90), molecules(9, 10, 9, 90)
    monopoles = first.pop("monopoles")
    write(tmp_path / "a.zarr", first)
    write(tmp_path / "a.zarr", second, append=True)
    assert_holds(tmp_path / "a.zarr", {**first, "monopoles": monopoles * np.nan}, second)


class Killed(BaseException):
    """Stands for SIGKILL: nothing of the package may handle it."""


@pytest.mark.parametrize("moment", range(0, 25, 2))
def test_a_killed_append_is_invisible_and_rolls_forward(tmp_path, monkeypatch, moment):
    first, lost, second = (
        molecules(10, 70, 9, 90),
        molecules(11, 300, 40, 600),
        molecules(12, 5, 9, 90),
    )
    store, expected = tmp_path / "a.zarr", tmp_path / "b.zarr"
    for path in (store, expected):
        write(path, first)
    write(expected, second, append=True)

    steps = iter(range(moment, -1, -1))

    def dying(operation):
        def step(*arguments, **options):
            if next(steps, 0) == 0:
                raise Killed
            return operation(*arguments, **options)

        return step

    with monkeypatch.context() as patch:
        patch.setattr("pipeline.store.table.os.replace", dying(shutil.os.replace))
        patch.setattr("pipeline.store.molecules.write_node", dying(write_node))
        with pytest.raises(Killed):
            write(store, lost, append=True)
    assert_holds(store, first)
    write(store, second, append=True)
    assert_holds(store, first, second)
    assert digest(store) == digest(expected)


def test_an_error_leaves_nothing_behind(tmp_path):
    values = molecules(13, 10, 5, 20)
    values["esp"] = values["esp"][:3]
    with pytest.raises(ValueError, match="10 rows"):
        write(tmp_path / "a.zarr", values)
    assert not list(tmp_path.iterdir())


def test_an_existing_store_is_not_overwritten(tmp_path):
    write(tmp_path / "a.zarr", molecules(14, 10, 5, 20))
    before = digest(tmp_path / "a.zarr")
    with pytest.raises(StoreError, match="--append"):
        write(tmp_path / "a.zarr", molecules(15, 10, 5, 20))
    assert digest(tmp_path / "a.zarr") == before
    with pytest.raises(StoreError, match="there is no Zarr store here"):
        write(tmp_path / "none.zarr", molecules(15, 10, 5, 20), append=True)
    assert [path.name for path in tmp_path.iterdir()] == ["a.zarr"]


def test_a_second_writer_is_refused(tmp_path):
    values = molecules(16, 10, 5, 20)
    arguments = ([VARIABLES[name] for name in values], {ATOM: 5, GRID_POINT: 20, XYZ: 3})
    with (
        StoreWriter(tmp_path / "a.zarr", *arguments),
        pytest.raises(StoreError, match="another process is writing here"),
        StoreWriter(tmp_path / "a.zarr", *arguments),
    ):
        pass


def test_quarantine_has_dimensions_of_its_own(tmp_path):
    good, bad = molecules(17, 10, 5, 20), molecules(18, 3, 5, 20)
    sizes = {ATOM: 5, GRID_POINT: 20, XYZ: 3}
    store = tmp_path / "a.zarr"
    for append in (False, True):
        with StoreWriter(store, [VARIABLES[k] for k in good], sizes, append=append) as writer:
            writer.write(10, good)
            writer.quarantine(bad, ["atoms on top of each other"] * 3)
            writer.commit(schema(writer.n_molecules, writer.lengths, writer.n_quarantined))
    tree = open_store(store)
    assert tree["quarantine"].sizes["quarantined_molecule"] == 6
    assert set(tree["quarantine/reason"].to_numpy()) == {"atoms on top of each other"}
    np.testing.assert_array_equal(tree["quarantine/esp"][3:, : bad["esp"].shape[1]], bad["esp"])


def test_a_lost_or_broken_store_is_one_error(tmp_path):
    with pytest.raises(StoreError, match="there is no Zarr store here"):
        open_store(tmp_path / "none.zarr")
    with pytest.raises(StoreError, match="there is no Zarr store here"):
        read_schema(tmp_path / "none.zarr")
    zarr.create_group(tmp_path / "other.zarr")
    with pytest.raises(StoreError, match="dcmnet_schema"):
        read_schema(tmp_path / "other.zarr")


def test_the_root_holds_the_metadata_of_every_array(tmp_path):
    write(tmp_path / "a.zarr", molecules(22, 10, 5, 20))
    root = json.loads((tmp_path / "a.zarr" / "zarr.json").read_text())
    for path, document in root["consolidated_metadata"]["metadata"].items():
        assert document == json.loads((tmp_path / "a.zarr" / path / "zarr.json").read_text())
    assert set(root["consolidated_metadata"]["metadata"]) == set(NAMES)
