"""The store as written: what comes back, what takes no space, and what is visible when."""

from __future__ import annotations

import hashlib
import json
import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
import zarr

from pipeline import open_store, read_schema
from pipeline.store.layout import MAX_SHARD_BYTES, MOLECULES_PER_BLOCK, molecules_per_shard
from pipeline.store.molecules import StoreWriter
from pipeline.store.results import ResultsWriter, write_results
from store_schema import RESULT_VARIABLES, VARIABLES, SourceRecord, StoreSchema
from store_schema.names import ATOM, DCM, GRID_POINT, XYZ, Variable
from store_schema.problems import StoreError

NAMES = (
    "molecule_id",
    "n_atoms",
    "n_grid",
    "atomic_numbers",
    "positions",
    "monopoles",
    "esp",
    "vdw_surface",
    "energy",
)
KEPT = Variable("occupation", ("molecule", "occupation_1"), "float64", "none", "kept")


def molecules(seed: int, n: int, atoms: int, grid: int) -> dict[str, np.ndarray]:
    """Padded arrays of random molecules, as ingest hands them to the writer."""
    rng = np.random.default_rng(seed)
    n_atoms = rng.integers(1, atoms, n, endpoint=True).astype(np.int32)
    n_grid = rng.integers(1, grid, n, endpoint=True).astype(np.int32)
    no_atom = np.arange(atoms) >= n_atoms[:, None]
    no_point = np.arange(grid) >= n_grid[:, None]
    values: dict[str, np.ndarray] = {
        "molecule_id": np.array([f"{seed}é/{i}" for i in range(n)], dtype=object),
        "n_atoms": n_atoms,
        "n_grid": n_grid,
        "atomic_numbers": np.where(no_atom, 0, rng.integers(1, 18, (n, atoms))).astype(np.int32),
        "positions": rng.normal(size=(n, atoms, 3)).astype(np.float32),
        "monopoles": rng.normal(size=(n, atoms)).astype(np.float32),
        "esp": rng.normal(size=(n, grid)).astype(np.float32),
        "vdw_surface": rng.normal(size=(n, grid, 3)).astype(np.float32),
        "energy": rng.normal(size=n),
    }
    for name in ("positions", "monopoles"):
        values[name][no_atom] = np.nan
    for name in ("esp", "vdw_surface"):
        values[name][no_point] = np.nan
    return values


def schema(n: int, lengths: dict[str, int], n_quarantined: int = 0) -> StoreSchema:
    source = SourceRecord(convention="test", files=(), n_molecules=n, keys={})
    return StoreSchema(
        n_molecules=n,
        n_quarantined=n_quarantined,
        max_atoms=lengths.get(ATOM, 0),
        max_grid=lengths.get(GRID_POINT, 0),
        variables=NAMES,
        units={},
        sources=(source,),
        created_by="test",
    )


def write(
    store: Path, values: dict[str, np.ndarray], block: int = 50, append: bool = False, **options
) -> None:
    n = len(values["n_atoms"])
    sizes = {ATOM: values["positions"].shape[1], GRID_POINT: values["esp"].shape[1], XYZ: 3}
    variables = [VARIABLES[name] for name in values]
    with StoreWriter(store, variables, sizes, append=append, **options) as writer:
        for start in range(0, n, block):
            rows = slice(start, min(start + block, n))
            writer.write(rows.stop - start, {k: v[rows] for k, v in values.items()})
        writer.commit(schema(writer.n_molecules, writer.lengths))


def assert_holds(store: Path, *expected: dict[str, np.ndarray]) -> None:
    """The store holds these molecules one after the other, padded with what is missing."""
    dataset = open_store(store).to_dataset()
    row = 0
    for values in expected:
        for name, array in values.items():
            stored = dataset[name].to_numpy()[row : row + len(array)]
            inside = tuple(map(slice, array.shape))
            np.testing.assert_array_equal(stored[inside], array, err_msg=name)
            padding = np.ones(stored.shape, dtype=bool)
            padding[inside] = False
            if stored.dtype.kind == "f":
                assert np.isnan(stored[padding]).all()
            elif stored.dtype.kind == "i":
                assert not stored[padding].any()
        row += len(values["n_atoms"])
    assert dataset.sizes["molecule"] == row


def digest(store: Path) -> dict[str, str]:
    return {
        str(path.relative_to(store)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(store.rglob("*"))
        if path.is_file()
    }


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
        patch.setattr(
            "pipeline.store.molecules.write_document",
            dying(__import__("pipeline.store.metadata", fromlist=["_"]).write_document),
        )
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
    with pytest.raises(StoreError, match="nothing that is one"):
        write(tmp_path / "none.zarr", molecules(15, 10, 5, 20), append=True)
    assert [path.name for path in tmp_path.iterdir()] == ["a.zarr"]


def test_a_second_writer_is_refused(tmp_path):
    values = molecules(16, 10, 5, 20)
    arguments = ([VARIABLES[name] for name in values], {ATOM: 5, GRID_POINT: 20, XYZ: 3})
    with (
        StoreWriter(tmp_path / "a.zarr", *arguments),
        pytest.raises(StoreError, match="no other writer"),
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


def test_results_come_in_any_order(tmp_path):
    store = tmp_path / "a.zarr"
    write(store, molecules(19, 200, 8, 90))
    rng = np.random.default_rng(0)
    rows = rng.permutation(200)[:120]
    charges = rng.normal(size=(120, 6, 4)).astype(np.float32)
    names = ("charges", "esp_rmse")
    split = Variable("split", ("molecule",), "str", "none", "split of the molecule")
    variables = [*(RESULT_VARIABLES[name] for name in names), split]
    arguments = (store, "run", variables, {DCM: 4}, {"epoch": 3})
    with ResultsWriter(*arguments, coordinates=["split"]) as writer:
        writer.write(rows[:50], {"charges": charges[:50]})
        writer.write(rows[50:], {"charges": charges[50:]})
        writer.write(0, {"split": np.array(["train"] * 200, dtype=object)})
        assert "results" not in open_store(store).children
        writer.commit()
    group = open_store(store)["results/run"]
    stored = group["charges"].to_numpy()
    np.testing.assert_array_equal(stored[rows][:, :6], charges)
    assert np.isnan(stored[rows][:, 6:]).all()
    assert np.isnan(np.delete(stored, rows, axis=0)).all()
    assert np.isnan(group["esp_rmse"]).all()
    assert set(group.coords["split"].to_numpy()) == {"train"}
    assert group.attrs["epoch"] == 3
    assert [path.name for path in tmp_path.iterdir()] == ["a.zarr"]
    with pytest.raises(StoreError, match="results of this name"):
        ResultsWriter(*arguments)
    with ResultsWriter(*arguments, overwrite=True) as writer:
        writer.commit()
    assert np.isnan(open_store(store)["results/run/charges"]).all()


def test_results_of_whole_blocks_are_written_while_others_come(tmp_path, rng):
    """Of expected rows, in any order, only those of blocks that lack some are in memory."""
    n, store = 2 * MOLECULES_PER_BLOCK + 70, tmp_path / "a.zarr"
    write(store, molecules(23, n, 4, 30))
    expected = rng.random(n) < 0.8
    expected[:MOLECULES_PER_BLOCK] = False
    esp = rng.normal(size=(n, 30)).astype(np.float32)
    variables = [RESULT_VARIABLES["esp_predicted"], RESULT_VARIABLES["esp_rmse"]]
    with ResultsWriter(store, "run", variables, {}, {}, expected=expected) as writer:
        for rows in np.array_split(rng.permutation(np.flatnonzero(expected)), 9):
            writer.write(rows, {"esp_predicted": esp[rows], "esp_rmse": esp[rows, 0]})
        assert not writer._waiting
        with pytest.raises(ValueError, match="twice"):
            writer.write(rows[:1], {"esp_rmse": esp[rows[:1], 0]})
        writer.commit()
    group = open_store(store)["results/run"]
    for name, values in {"esp_predicted": esp, "esp_rmse": esp[:, 0]}.items():
        np.testing.assert_array_equal(group[name][expected], values[expected])
        assert np.isnan(group[name][~expected]).all()


def test_two_analyses_at_once_both_arrive(tmp_path):
    store = tmp_path / "a.zarr"
    write(store, molecules(20, 20, 8, 90))
    variables = [RESULT_VARIABLES["esp_rmse"]]
    with (
        ResultsWriter(store, "one", variables, {}, {}) as one,
        ResultsWriter(store, "two", variables, {}, {}) as two,
    ):
        one.write(0, {"esp_rmse": np.zeros(20)})
        two.write(0, {"esp_rmse": np.ones(20)})
        write(store, molecules(21, 5, 30, 120), append=True)
        one.commit()
        two.commit()
    tree = open_store(store)
    assert set(tree["results"].children) == {"one", "two"}
    assert int(tree["results/two/esp_rmse"].sum()) == 20
    assert tree["results/two"].sizes["molecule"] == 25


def test_a_lost_or_broken_store_is_one_error(tmp_path):
    with pytest.raises(StoreError, match="nothing that is one"):
        open_store(tmp_path / "none.zarr")
    with pytest.raises(StoreError, match="nothing that is one"):
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
