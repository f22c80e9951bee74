"""Files on which the package went wrong, with the truth: right, or a question, never wrong."""

from __future__ import annotations

import re

import numpy as np
import pytest

from pipeline import ingest, open_store
from store_schema.problems import AmbiguityError, ConfigError, SourceError
from tests.pipeline.inference.convention_table import REFERENCE

CASES = REFERENCE.parent / "cases"
pytestmark = pytest.mark.skipif(not CASES.exists(), reason="the cases are not here")
KCAL, KJ, EV, BOHR = 627.509474, 627.509474 * 4.184, 27.211386245988, 0.529177210903


def raw(name):
    with np.load(CASES / f"{name}.npz") as file:
        return {key: file[key] for key in file.files if file[key].dtype.kind != "O"}


def stored(folder, name, **options):
    ingest([CASES / f"{name}.npz"], folder / "a.zarr", **options)
    return open_store(folder / "a.zarr").to_dataset().load()


# What is stored, by variable: key of the file and the factor that it has in truth.
RIGHT = {
    "sgdml_6h2o": {"energy": ("E", 1 / KCAL), "forces": ("F", 1 / KCAL)},
    "mbgdml_2h2o_nbody": {"energy": ("E", 1 / KCAL), "forces": ("F", 1 / KCAL)},
    "relative_energy_kcal_forces": {"energy": ("E", 1 / KCAL), "forces": ("F", 1 / KCAL)},
    "kj_mol_angstrom": {"energy": ("E", 1 / KJ), "forces": ("F", 1 / KJ)},
    "comp6_s66x8_gradients": {"energy": ("energies", 1.0), "forces": ("forces", -1.0)},
    "esp_kj_monopoles": {"esp": ("esp", 1 / KJ), "monopoles": ("mono", 1.0)},
    "aimnet2_names": {"positions": ("coord", 1.0), "dipole": ("dipole", 1.0)},
    "ani_species_symbols": {"positions": ("coordinates", 1.0), "energy": ("energies", 1.0)},
    "esp_less_report_crash": {"dipole": ("Dxyz", BOHR), "monopoles": ("mono", 1.0)},
    "reptar_4h2o": {"positions": ("geometry", 1.0)},
}


@pytest.mark.parametrize("name", RIGHT)
def test_what_the_file_tells_is_read_right(tmp_path, name):
    molecules, columns = stored(tmp_path, name), raw(name)
    assert len(molecules.positions) == len(next(iter(columns[k] for k, _ in RIGHT[name].values())))
    for variable, (key, factor) in RIGHT[name].items():
        found = np.nan_to_num(molecules[variable].to_numpy())
        expected = np.nan_to_num(columns[key]) * factor
        expected = expected[tuple(slice(length) for length in found.shape)]
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5, err_msg=variable)


# What is asked, and the answer that makes it right.
ASKED = {
    "s66_minima_kcal": ("F", {"unit.F": "kcal/mol/angstrom", "F": "forces"}, "forces", 1 / KCAL),
    "relative_energy_kcal": ("E", {"unit.E": "kcal/mol"}, "energy", 1 / KCAL),
    "clphoh_dipole_hint": ("D", {"unit.D": "e*angstrom"}, "dipole", 1.0),
    "mmml_shared_grid": ("esp", {"unit.esp": "hartree/e"}, "esp", 1.0),
    "monopoles_sign_flipped": ("mono", {"unit.mono": "-e"}, "monopoles", -1.0),
}


@pytest.mark.parametrize("name", ASKED)
def test_what_it_does_not_tell_is_asked_and_the_true_answer_is_believed(tmp_path, name):
    key, answer, variable, factor = ASKED[name]
    with pytest.raises(AmbiguityError, match=rf", {key}: .*--declare [^ ]*{key}=") as question:
        stored(tmp_path, name)
    # No reading is proposed before the others.
    for declared in re.findall(r"--declare \S+=(\S+)", str(question.value)):
        assert "UNIT" in declared or "MEANING" in declared
    molecules = stored(tmp_path, name, declare=answer)
    found, expected = molecules[variable].to_numpy(), raw(name)[key] * factor
    expected = expected[tuple(slice(length) for length in found.shape)]
    np.testing.assert_allclose(np.nan_to_num(found), expected, rtol=1e-5, atol=1e-5)


def test_flipped_monopoles_are_said_to_contradict_the_esp(tmp_path):
    with pytest.raises(AmbiguityError, match=r"sign is opposite.*the charges that explain the ESP"):
        stored(tmp_path, "monopoles_sign_flipped")


@pytest.mark.parametrize("name", ["gemnet_concatenated", "dimenet_qm9_concatenated"])
def test_concatenated_atoms_are_those_of_their_molecules(tmp_path, name):
    molecules, columns = stored(tmp_path, name), raw(name)
    np.testing.assert_array_equal(molecules.n_atoms, columns["N"])
    found = molecules.positions.to_numpy()
    real = np.arange(found.shape[1]) < columns["N"][:, None]
    np.testing.assert_allclose(found[real], columns["R"], atol=1e-5)
    np.testing.assert_array_equal(molecules.atomic_numbers.to_numpy()[real], columns["Z"])


def test_dissociated_geometries_are_believed_once_declared(tmp_path):
    declare = {"unit.R": "angstrom", "unit.D": "e*angstrom", "unit.E": "eV"}
    declare |= {"unit.F": "eV/angstrom", "F": "forces"}
    report = ingest([CASES / "dissociating_ion.npz"], tmp_path / "a.zarr", declare=declare)
    assert (report.n_molecules, report.n_quarantined) == (400, 0)
    with pytest.raises(AmbiguityError, match=r", [DEF]: "):  # and not about R
        ingest([CASES / "dissociating_ion.npz"], tmp_path / "b.zarr")


def test_points_inside_atoms_are_named_and_can_be_dropped(tmp_path):
    declare = {"unit.esp": "hartree/e"}
    with pytest.raises(SourceError, match=r"grid points lie inside the atoms.*--drop-inside"):
        stored(tmp_path, "mmml_grids_esp", declare=declare)
    molecules = stored(tmp_path, "mmml_grids_esp", declare=declare, drop_inside=True)
    columns = raw("mmml_grids_esp")
    assert len(molecules.esp) == 3
    for row, (points, esp) in enumerate(zip(columns["vdw_grid"], columns["esp"], strict=True)):
        n = int(molecules.n_grid[row])
        assert 0.85 * len(esp) < n < len(esp)
        places = {tuple(point): value for point, value in zip(points, esp, strict=True)}
        kept = molecules.vdw_surface.to_numpy()[row, :n]
        expected = [places[tuple(point)] for point in kept]
        np.testing.assert_allclose(molecules.esp.to_numpy()[row, :n], expected)


def test_masked_points_have_no_value(tmp_path):
    molecules, columns = stored(tmp_path, "espMask"), raw("espMask")
    np.testing.assert_array_equal(molecules.n_grid, columns["espMask"].sum(axis=1))
    for row, mask in enumerate(columns["espMask"]):
        n = int(mask.sum())
        esp = molecules.esp.to_numpy()[row, :n]
        np.testing.assert_allclose(esp, columns["esp"][row][mask], atol=1e-6)


@pytest.mark.parametrize("name", ["sgdml_6h2o_object_member", "mmml_metadata_object"])
def test_objects_that_are_no_data_are_left_out(tmp_path, name):
    report = ingest([CASES / f"{name}.npz"], tmp_path / "a.zarr")
    assert report.n_molecules > 0
    assert any("Python objects" in warning for warning in report.warnings)


def test_a_cell_is_warned_of(tmp_path):
    declare = {"unit.E": "eV", "unit.F": "eV/angstrom", "F": "forces"}
    report = ingest([CASES / "periodic_solid.npz"], tmp_path / "a.zarr", declare=declare)
    assert any("unit_cell is a unit cell" in warning for warning in report.warnings)


@pytest.mark.parametrize("key", ["coord", "numbers"])
def test_what_is_not_named_can_be_declared(tmp_path, key):
    columns = raw("aimnet2_names")
    np.savez(tmp_path / "a.npz", **{{key: "mine"}.get(k, k): v for k, v in columns.items()})
    meaning = {"coord": "positions", "numbers": "atomic_numbers"}[key]
    with pytest.raises(SourceError, match=f"--declare KEY={meaning}"):
        ingest([tmp_path / "a.npz"], tmp_path / "a.zarr")
    ingest([tmp_path / "a.npz"], tmp_path / "a.zarr", declare={"mine": meaning})
    found = open_store(tmp_path / "a.zarr").positions.to_numpy()
    np.testing.assert_allclose(np.nan_to_num(found), columns["coord"], atol=1e-5)


def test_a_false_declaration_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="force"):
        stored(tmp_path, "esp_kj_monopoles", declare={"unit.esp": "hartree/e"})
