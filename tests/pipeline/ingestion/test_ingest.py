"""Ingest as a whole: what is missing, what is set aside, what is declared, what is repeated."""

from __future__ import annotations

import hashlib
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from pipeline import ingest, open_store, read_schema
from pipeline.sample import sample_sources
from pipeline.store.splits import split_store
from store_schema.problems import AmbiguityError, ConfigError, SourceError, StoreError

CLASSIC, IONS, ROLES, SINGLES = sample_sources()


def classic(n: int = 12) -> dict[str, np.ndarray]:
    with np.load(CLASSIC) as raw:
        return {key: raw[key][:n].copy() for key in raw.files}


def save(path: Path, columns: dict[str, np.ndarray]) -> Path:
    np.savez(path, **columns)
    return path


def contents(store: Path) -> dict[str, str]:
    return {
        str(path.relative_to(store)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(store.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    store = tmp_path_factory.mktemp("sample") / "sample.zarr"
    return ingest(sample_sources(), store), store


def test_the_sample_is_understood(sample):
    report, store = sample
    assert report.n_quarantined == 0
    assert all("have no monopoles" in warning for warning in report.warnings)
    tree = open_store(store)
    assert tree.sizes["molecule"] == report.n_molecules == read_schema(store).n_molecules
    assert set(np.unique(tree.total_charge)) == {-1, 0, 1}
    conventions = {source.convention for source in report.schema.sources}
    assert conventions == {"padded", "split_by_role", "single_molecule"}
    energies, ions = report.schema.sources[2], report.schema.sources[1]
    assert energies.keys["F"].unit == "hartree/angstrom"
    assert ions.keys["esp"].unit == "kcal/mol/e"
    for source in report.schema.sources:
        for key, record in source.keys.items():
            if record.unit_from == "physics":
                assert record.evidence, key
                assert record.confidence > 0.95


def test_identical_input_gives_identical_bytes(sample, tmp_path):
    _, store = sample
    ingest(sample_sources(), tmp_path / "again.zarr", workers=3)
    assert contents(tmp_path / "again.zarr") == contents(store)


def test_the_same_source_twice_changes_nothing(tmp_path):
    store = tmp_path / "a.zarr"
    ingest([SINGLES], store)
    before = contents(store)
    for append in (True, False):
        report = ingest([SINGLES], store, append=append)
        assert report.n_molecules == 0
        assert "already" in report.warnings[0]
        assert contents(store) == before
    with pytest.raises(StoreError, match="--append"):
        ingest([IONS], store)
    assert contents(store) == before


def test_append_adds_molecules_and_their_provenance(tmp_path):
    store, whole = tmp_path / "a.zarr", tmp_path / "b.zarr"
    ingest([SINGLES], store)
    report = ingest([SINGLES, CLASSIC], store, append=True)
    ingest([SINGLES, CLASSIC], whole)
    assert report.n_molecules == 81
    assert report.schema.sources == read_schema(whole).sources
    left, right = open_store(store).to_dataset(), open_store(whole).to_dataset()
    assert left.sizes == right.sizes
    for name in right.variables:
        np.testing.assert_array_equal(left[name], right[name], err_msg=name)


def test_a_file_under_another_name_is_not_added_again(tmp_path):
    store, renamed = tmp_path / "a.zarr", tmp_path / "renamed.npz"
    stored = ingest([CLASSIC], store).schema
    shutil.copy(CLASSIC, renamed)
    report = ingest([renamed], store, append=True)
    assert report.n_molecules == 0
    assert report.schema == stored
    assert any("renamed.npz is in the store already" in warning for warning in report.warnings)


def test_ids_that_the_store_has_are_warned_of(tmp_path):
    store, part = tmp_path / "a.zarr", tmp_path / "part.npz"
    with np.load(CLASSIC) as whole:
        np.savez(part, **{key: whole[key][:20] for key in whole.files})
    ingest([part], store)
    report = ingest([CLASSIC], store, append=True)
    assert report.n_molecules > 20
    assert any("20 molecules have an id that another has" in w for w in report.warnings)


def test_what_is_missing_is_not_zero(tmp_path):
    report = ingest([SINGLES], tmp_path / "a.zarr")
    assert "monopoles" not in report.schema.variables
    tree = open_store(tmp_path / "a.zarr")
    padding = np.arange(tree.sizes["grid_point"]) >= tree.n_grid.to_numpy()[:, None]
    assert np.isnan(tree.esp.to_numpy()[padding]).all()
    assert np.isfinite(tree.esp.to_numpy()[~padding]).all()
    assert padding.any()


def test_a_column_of_nothing_and_a_width_are_no_values(tmp_path):
    columns = classic()
    columns["E"] = np.full(12, np.nan)
    columns["N"][:] = columns["Z"].shape[1]
    report = ingest([save(tmp_path / "a.npz", columns)], tmp_path / "a.zarr")
    assert report.n_molecules == 12
    assert "energy" not in report.schema.variables
    assert any("E is missing in every molecule" in warning for warning in report.warnings)
    assert any("N is the padded width" in warning for warning in report.warnings)
    np.testing.assert_array_equal(open_store(tmp_path / "a.zarr").n_atoms, classic()["N"][:, 0])


def test_a_dipole_that_some_molecules_lack_is_missing_there(tmp_path):
    columns = classic()
    columns["Dxyz"][3] = np.nan
    report = ingest([save(tmp_path / "a.npz", columns)], tmp_path / "a.zarr")
    dipole = open_store(tmp_path / "a.zarr").dipole.to_numpy()
    assert np.isnan(dipole[3]).all()
    assert np.isfinite(np.delete(dipole, 3, axis=0)).all()
    assert any("1 molecule has no dipole" in warning for warning in report.warnings)


def overlap(columns):
    columns["R"][0, 1] = columns["R"][0, 0] + 0.05


def lost_position(columns):
    columns["R"][0, 2] = np.nan


def no_element(columns):
    columns["Z"][0, 0] = 200


def wrong_count(columns):
    columns["N"][0] += 2


def failed_partition(columns):
    columns["mono"][0] = 0


def shifted_monopoles(columns):
    columns["mono"][0, 0] += 0.5


def scrambled_grid(columns):
    n = columns["n_grid"][0]
    columns["esp"][0, :n] = np.random.default_rng(0).permutation(columns["esp"][0, :n])


def point_inside(columns):
    columns["vdw_surface"][0, 5] = columns["R"][0, 0]


def hole_in_esp(columns):
    columns["esp"][0, 7] = np.nan


FAULTS = {
    overlap: "covalent radii apart",
    lost_position: "atom has no position",
    no_element: "is no element",
    wrong_count: "atoms and has",
    failed_partition: "the partition failed",
    shifted_monopoles: "its monopoles sum to",
    scrambled_grid: "another order",
    point_inside: "inside the atoms",
    hole_in_esp: "missing at some grid points",
}


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_a_faulty_molecule_goes_to_quarantine(tmp_path, fault):
    columns = classic()
    fault(columns)
    source = save(tmp_path / "a.npz", columns)
    report = ingest([source], tmp_path / "a.zarr")
    assert (report.n_molecules, report.n_quarantined) == (11, 1)
    (reason,) = report.reasons
    assert FAULTS[fault] in reason
    tree = open_store(tmp_path / "a.zarr")
    assert tree["quarantine/molecule_id"].to_numpy()[0] == columns["id"][0]
    assert tree["quarantine/reason"].to_numpy()[0] == reason
    assert columns["id"][0] not in tree.molecule_id.to_numpy()
    with pytest.raises(SourceError, match=FAULTS[fault]):
        ingest([source], tmp_path / "b.zarr", on_invalid="raise")
    assert not (tmp_path / "b.zarr").exists()


def test_an_atom_at_the_origin_is_an_atom_and_padding_may_lie_between(tmp_path):
    columns = classic()
    shift = columns["R"][0, 1].copy()
    columns["R"][0, : columns["N"][0, 0]] -= shift
    columns["vdw_surface"][0, : columns["n_grid"][0]] -= shift
    plain = ingest([save(tmp_path / "a.npz", columns)], tmp_path / "a.zarr")
    order = np.r_[59, 0, 58, 1:58]
    for key in ("R", "Z", "mono"):
        columns[key] = columns[key][:, order]
    ingest([save(tmp_path / "b.npz", columns)], tmp_path / "b.zarr")
    left, right = (open_store(tmp_path / name).to_dataset() for name in ("a.zarr", "b.zarr"))
    assert plain.n_molecules == 12
    for name in left.variables:
        np.testing.assert_array_equal(left[name], right[name], err_msg=name)


def test_one_set_of_numbers_for_all_conformers(tmp_path):
    with np.load(ROLES / "energies_forces_dipoles.npz") as raw:
        first = {key: raw[key][0] for key in raw.files}
    with np.load(ROLES / "grids_esp.npz") as raw:
        first |= {key: raw[key][0] for key in ("esp", "esp_grid")}
    n = int(first["N"])
    rng = np.random.default_rng(0)
    turns = [np.linalg.qr(rng.normal(size=(3, 3)))[0] for _ in range(5)]
    columns = {
        "Z": first["Z"][:n],
        "R": np.stack([first["R"][:n] @ turn for turn in turns]),
        "esp": np.stack([first["esp"]] * 5),
        "esp_grid": np.stack([first["esp_grid"] @ turn for turn in turns]),
    }
    report = ingest([save(tmp_path / "a.npz", columns)], tmp_path / "a.zarr")
    tree = open_store(tmp_path / "a.zarr")
    assert report.n_molecules == 5
    np.testing.assert_array_equal(tree.atomic_numbers, np.stack([first["Z"][:n]] * 5))
    np.testing.assert_array_equal(tree.total_charge, [first["Q"]] * 5)


def test_sets_are_remembered_as_the_split(tmp_path):
    columns = classic(12)
    for name, rows in {"train": slice(0, 6), "valid": slice(6, 9), "test": slice(9, 12)}.items():
        save(tmp_path / f"dft_{name}.npz", {key: array[rows] for key, array in columns.items()})
    ingest([tmp_path / "dft_*.npz"], tmp_path / "a.zarr")
    tree = open_store(tmp_path / "a.zarr")
    split = dict(zip(tree.molecule_id.to_numpy(), tree.split.to_numpy(), strict=True))
    expected = ["train"] * 6 + ["valid"] * 3 + ["test"] * 3
    assert split == dict(zip(columns["id"], expected, strict=True))
    assert list(split_store(tmp_path / "a.zarr").labels) == list(split.values())
    report = ingest([tmp_path / "dft_test.npz", IONS], tmp_path / "b.zarr")
    assert "split" not in report.schema.variables
    assert any("split is not kept" in warning for warning in report.warnings)


def test_unknown_keys_are_kept_and_metadata_is_noted(tmp_path):
    columns = classic()
    columns |= {
        "homo lumo": np.arange(24.0).reshape(12, 2),
        "smiles": np.array([f"C{i}" for i in range(12)]),
        "dipole_magnitude_kept": np.arange(12),
        "about": np.array("PBE0"),
        "table": np.zeros(5),
    }
    report = ingest([save(tmp_path / "a.npz", columns)], tmp_path / "a.zarr")
    tree = open_store(tmp_path / "a.zarr")
    np.testing.assert_array_equal(tree["homo_lumo"], columns["homo lumo"])
    assert list(tree["smiles"].to_numpy()) == list(columns["smiles"])
    (source,) = report.schema.sources
    assert source.keys["homo lumo"].stored_as == "homo_lumo"
    assert source.metadata == {"about": "PBE0"}
    assert any("table is not stored" in warning for warning in report.warnings)


def test_declarations_settle_are_recorded_and_can_be_contradicted(tmp_path):
    columns = {key: classic(2)[key] for key in ("id", "R", "Z", "Dxyz")}
    source = save(tmp_path / "a.npz", columns)
    with pytest.raises(AmbiguityError, match=r"--declare unit\.Dxyz="):
        ingest([source], tmp_path / "a.zarr")
    declare = {"unit.Dxyz": "e*a0", "level_of_theory": "PBE0/def2-SVP"}
    report = ingest([source], tmp_path / "a.zarr", declare=declare | {"total_charge": "0"})
    (record,) = report.schema.sources
    assert record.keys["Dxyz"].unit_from == "declared"
    assert record.level_of_theory == "PBE0/def2-SVP"
    assert record.keys["total_charge"].semantics_from == "declared"
    assert any("no ESP" in warning for warning in report.warnings)
    assert not open_store(tmp_path / "a.zarr").total_charge.to_numpy().any()

    for wrong in ({"unit.esp": "kcal/mol/e"}, {"unit.R": "bohr"}, {"unit.Dxyz": "debye"}):
        with pytest.raises(ConfigError, match="force"):
            ingest([CLASSIC], tmp_path / "b.zarr", declare=wrong)
    report = ingest([CLASSIC], tmp_path / "b.zarr", declare={"unit.Dxyz": "debye"}, force=True)
    assert report.schema.sources[0].keys["Dxyz"].unit_from == "forced"


@pytest.mark.parametrize(
    "declare",
    [{"D": "nonsense"}, {"unit.esp": "furlong"}, {"nokey": "esp"}, {"total_charge": "some"}],
)
def test_a_meaningless_declaration_is_refused(tmp_path, declare):
    with pytest.raises(ConfigError, match="--declare"):
        ingest([CLASSIC], tmp_path / "a.zarr", declare=declare)
    assert not (tmp_path / "a.zarr").exists()


def test_columns_of_different_molecules_are_not_joined(tmp_path):
    with np.load(ROLES / "grids_esp.npz") as raw:
        columns = {key: raw[key].copy() for key in raw.files}
    columns["R"][4, 1] += 0.5
    grids = save(tmp_path / "grids.npz", columns)
    with pytest.raises(SourceError, match=r"differ in the positions \(R and R\)"):
        ingest([f"{ROLES / 'energies_forces_dipoles.npz'}+{grids}"], tmp_path / "a.zarr")
    columns["id"][4] = "other"
    save(grids, columns)
    with pytest.raises(SourceError, match="are in one file only"):
        ingest([f"{ROLES / 'energies_forces_dipoles.npz'}+{grids}"], tmp_path / "a.zarr")
    assert not list(tmp_path.glob("*.zarr*"))


def test_an_error_late_in_the_ingest_leaves_nothing(tmp_path, monkeypatch):
    def fails(*_):
        raise OSError("disk full")

    monkeypatch.setattr(sys.modules["pipeline.ingestion.blocks"], "faults", fails)
    with pytest.raises(OSError, match="disk full"):
        ingest([SINGLES], tmp_path / "a.zarr")
    assert not list(tmp_path.iterdir())


def test_files_of_the_same_molecules_are_joined_however_they_are_named(tmp_path):
    """Trap: every molecule twice, half of them without an ESP."""
    roles = sample_sources()[2]
    whole = ingest([roles], tmp_path / "folder.zarr")
    files = sorted(roles.glob("*.npz"))
    for order in (files, files[::-1], [*files, files[0]]):
        singly = ingest(order, tmp_path / f"{len(order)}{order[0].stem}.zarr")
        assert singly.n_molecules == whole.n_molecules
        assert [source.convention for source in singly.schema.sources] == ["split_by_role"]
    other = sample_sources()[1]
    mixed = ingest([files[0], other, files[1]], tmp_path / "mixed.zarr")
    assert [source.convention for source in mixed.schema.sources] == ["split_by_role", "padded"]


def test_an_atomic_number_between_two_elements_is_set_aside(tmp_path):
    with np.load(sample_sources()[1]) as file:
        arrays = dict(file)
    arrays["atomic_numbers"] = arrays["atomic_numbers"].astype(float)
    arrays["atomic_numbers"][3, 0] += 0.5
    np.savez(tmp_path / "between.npz", **arrays)
    report = ingest([tmp_path / "between.npz"], tmp_path / "store.zarr")
    assert report.n_quarantined == 1
    assert any("not whole" in reason for reason in report.reasons)
