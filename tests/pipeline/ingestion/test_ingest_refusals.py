"""What a tired user and an odd file meet: the right molecule set aside, the right thing blamed."""

from __future__ import annotations

import os
import sys

import numpy as np
import pytest

from dcmnet.console.options import pairs
from pipeline import ingest, open_store
from pipeline.inspection.validate import validate_store
from pipeline.sample import sample_sources
from store_schema.problems import ConfigError, SourceError, StoreError

CLASSIC, IONS, _, _ = sample_sources()

pytestmark = pytest.mark.filterwarnings("error::RuntimeWarning")


@pytest.fixture
def columns():
    with np.load(CLASSIC) as raw:
        return {key: raw[key][:12].copy() for key in raw.files}


def stored(folder, columns, **options):
    np.savez(folder / "a.npz", **columns)
    return ingest([folder / "a.npz"], folder / "a.zarr", **options)


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan, 1e300])
@pytest.mark.parametrize("key", ["R", "vdw_surface", "esp", "mono", "D", "Dxyz"])
def test_one_impossible_value_sets_one_molecule_aside(tmp_path, columns, key, value):
    if np.isnan(value) and key in ("D", "Dxyz"):
        pytest.skip("a missing dipole is no fault")
    columns[key] = columns[key].astype(np.float64)
    columns[key].reshape(12, -1)[3, 0] = value
    report = stored(tmp_path, columns)
    assert (report.n_molecules, report.n_quarantined) == (11, 1)
    assert open_store(tmp_path / "a.zarr")["quarantine/molecule_id"].item() == columns["id"][3]


def test_every_single_wrong_value_of_an_esp_is_found(tmp_path, columns):
    """Trap: the fit looks at every few points only."""
    for row in range(1, 12):
        columns["esp"][row, row * 7 % columns["n_grid"][row]] += 1
    assert stored(tmp_path, columns).n_molecules == 1


@pytest.mark.parametrize("value", [-6, -1, 6.5, 300])
def test_an_atomic_number_of_no_element_is_set_aside(tmp_path, columns, value):
    columns["Z"] = columns["Z"].astype(np.float32)
    columns["Z"][3, 1] = value
    del columns["N"]
    assert stored(tmp_path, columns).n_quarantined == 1


def test_minus_one_is_padding_where_there_is_no_position(tmp_path, columns):
    columns["Z"] = np.where(columns["Z"] == 0, -1, columns["Z"])
    report = stored(tmp_path, columns)
    assert report.n_quarantined == 0
    assert (
        open_store(tmp_path / "a.zarr").n_atoms.to_numpy().tolist() == columns["N"][:, 0].tolist()
    )


def test_a_charge_beyond_that_of_the_nuclei_is_set_aside(tmp_path, columns):
    plain = {key: columns[key] for key in ("R", "Z", "id")}
    charge = np.zeros(12)
    charge[3] = 1e6
    report = stored(tmp_path, plain | {"total_charge": charge})
    assert report.n_quarantined == 1


def test_a_wrong_declared_charge_is_blamed_itself(tmp_path, columns):
    with pytest.raises(ConfigError, match="--declare total_charge=2"):
        stored(tmp_path, columns, declare={"total_charge": "2"})
    assert stored(tmp_path, columns, declare={"total_charge": "0"}).n_molecules == 12


def test_a_source_without_a_sound_molecule_is_refused(tmp_path, columns):
    columns["mono"][columns["Z"] > 0] += 0.03
    with pytest.raises(
        SourceError, match="none of 12 molecules is sound, the first as its monopoles sum"
    ):
        stored(tmp_path, columns)
    assert [path.name for path in tmp_path.iterdir()] == ["a.npz"]


def test_a_store_without_molecules_is_not_sound(tmp_path, columns, monkeypatch):
    monkeypatch.setattr(sys.modules["pipeline.ingestion.run"]._Run, "check_stored", lambda _: None)
    columns["mono"][columns["Z"] > 0] += 0.03
    stored(tmp_path, columns)
    (problem, *_) = validate_store(tmp_path / "a.zarr").problems
    assert "it has none" in problem.wrong


def test_arrays_of_zeros_are_called_that(tmp_path, columns):
    nothing = {key: np.zeros_like(array) for key, array in columns.items() if key != "id"}
    with pytest.raises(SourceError, match="all values are 0, which cannot be atomic numbers"):
        stored(tmp_path, nothing)
    with pytest.raises(SourceError, match="all values are 0, which cannot be an ESP"):
        stored(tmp_path, columns | {"esp": nothing["esp"]})
    with pytest.raises(SourceError, match="all values are 0, which cannot be positions"):
        stored(tmp_path, columns | {"R": nothing["R"]})
    with pytest.raises(SourceError, match="R: all values are NaN or infinity, which cannot be pos"):
        stored(tmp_path, columns | {"R": np.full_like(columns["R"], np.nan)})


def test_no_number_of_points_and_repeated_ids_are_warned_of(tmp_path, columns):
    columns["n_grid"][:2] = 0
    columns["id"][5] = columns["id"][4]
    warnings = stored(tmp_path, columns).warnings
    assert any(
        "in 2 molecules, there are grid points where their number is 0" in w for w in warnings
    )
    assert any("1 molecule has an id that another has" in w for w in warnings)


@pytest.mark.parametrize("append", [False, True])
@pytest.mark.parametrize("place", ["file/a.zarr", f"{'x' * 300}.zarr", "http://x/y", "/"])
def test_odd_places_of_a_store_are_said_in_words(tmp_path, monkeypatch, place, append):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(StoreError) as refused:
        ingest([CLASSIC], place, append=append)
    assert "Errno" not in str(refused.value)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may write anywhere")
def test_a_folder_that_cannot_be_written_to_is_said_in_words(tmp_path):
    tmp_path.chmod(0o555)
    with pytest.raises(StoreError, match="permission denied"):
        ingest([CLASSIC], tmp_path / "a.zarr")


@pytest.mark.parametrize("meaning", ["molecular_dipole_vector", "quadrupole_tensor", "forces"])
def test_a_declared_meaning_that_the_shape_does_not_have_is_refused(tmp_path, columns, meaning):
    columns["mine"] = np.arange(12.0)
    for key in ("D", "mine"):
        with pytest.raises(ConfigError, match=f"{key}.*{meaning}"):
            stored(tmp_path, columns, declare={key: meaning})
    assert not (tmp_path / "a.zarr").exists()


def test_text_kept_as_objects_is_stored_as_text(tmp_path, columns):
    columns["smiles"] = np.array(["C", "Cl"] * 6, dtype=object)
    stored(tmp_path, columns, allow_pickle=True)
    assert open_store(tmp_path / "a.zarr")["smiles"].values.tolist() == ["C", "Cl"] * 6


def test_molecules_too_wide_to_be_worked_on_are_refused_unread(tmp_path):
    points = 5_000_000
    arrays = {"Z": np.ones((2, 2)), "R": np.zeros((2, 2, 3)), "N": np.full(2, 2)}
    grid = {"esp": np.zeros((2, points), "f4"), "vdw_surface": np.zeros((2, points, 3), "f4")}
    np.savez_compressed(tmp_path / "a.npz", **arrays, **grid)
    with pytest.raises(SourceError, match=f"2 atoms and {points} points"):
        ingest([tmp_path / "a.npz"], tmp_path / "a.zarr")
    assert not (tmp_path / "a.zarr").exists()


def test_an_unknown_array_too_wide_to_store_is_refused_unread(tmp_path, columns, monkeypatch):
    monkeypatch.setattr("pipeline.ingestion.plan._MAX_KEPT_VALUES", 8)
    with pytest.raises(SourceError, match=r"cube: it has 9 values per molecule.*at most 8"):
        stored(tmp_path, columns | {"cube": np.zeros((12, 3, 3))})
    assert [path.name for path in tmp_path.iterdir()] == ["a.npz"]


def test_what_is_no_file_is_not_opened(tmp_path):
    """A pipe would be waited for; a blank name is not the folder one is in."""
    os.mkfifo(tmp_path / "pipe.npz")
    (tmp_path / "loop.npz").symlink_to(tmp_path / "loop.npz")
    for source in (tmp_path / "pipe.npz", tmp_path / "loop.npz", tmp_path, "", " "):
        with pytest.raises(SourceError):
            ingest([source], tmp_path / "a.zarr")


def test_a_key_is_declared_once():
    assert pairs(["D=x", "D=x"], "--declare") == {"D": "x"}
    with pytest.raises(ConfigError, match="'x' and 'y'"):
        pairs(["D=x", "D=y"], "--declare")


def test_what_is_wrong_with_shapes_and_masks_is_said(tmp_path):
    with np.load(CLASSIC) as raw:
        good = {key: raw[key][:12].copy() for key in ("Z", "R", "esp", "vdw_surface")}
    there = good["vdw_surface"].any(axis=-1)
    elements = np.unique(good["Z"])[1:]
    cases = {
        "swap the last two": good | {"R": good["R"].transpose(0, 2, 1)},
        "one-hot codes": good | {"Z": (good["Z"][..., None] == elements).astype(float)},
        "it may mark padding instead of points": good | {"espMask": ~there},
    }
    for index, (said, columns) in enumerate(cases.items()):
        np.savez(tmp_path / f"{index}.npz", **columns)
        with pytest.raises(SourceError, match=said):
            ingest([tmp_path / f"{index}.npz"], tmp_path / f"{index}.zarr")
