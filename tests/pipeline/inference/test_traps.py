"""Traps that fresh eyes set: noise for charges, energies by the atom, molecules unlike the rest."""

from __future__ import annotations

import re

import numpy as np
import pytest

from pipeline import ingest, open_store
from pipeline.inspection.validate import validate_store
from pipeline.sample import sample_sources
from store_schema.problems import AmbiguityError, ConfigError
from tests.pipeline.inference.convention_table import molecules
from tests.pipeline.inference.force_field import Surface

CLASSIC, IONS, ROLES, _ = sample_sources()
BOHR, EV, KCAL = 0.529177210903, 27.211386245988, 627.509474


def classic(n=40):
    with np.load(CLASSIC) as raw:
        return {key: raw[key][:n].copy() for key in raw.files}


def roles():
    with np.load(ROLES / "energies_forces_dipoles.npz") as raw:
        return {key: raw[key].copy() for key in raw.files}


def stored(folder, columns, name="a", **options):
    np.savez(folder / f"{name}.npz", **columns)
    return ingest([folder / f"{name}.npz"], folder / f"{name}.zarr", **options)


@pytest.mark.parametrize("kind", ["noise", "reversed"])
def test_monopoles_that_follow_no_esp_are_a_question(tmp_path, rng, kind):
    columns = classic()
    real = columns["Z"] > 0
    mono = columns["mono"].reshape(real.shape)
    for row, mask in enumerate(real):
        if kind == "reversed":
            mono[row, mask] = mono[row, mask][::-1].copy()
        else:
            drawn = rng.normal(scale=0.3, size=mask.sum())
            mono[row, mask] = drawn - drawn.mean()
    columns["mono"] = mono
    with pytest.raises(AmbiguityError, match="mono"):
        stored(tmp_path, columns)


def test_a_few_molecules_of_the_opposite_sign_are_set_aside(tmp_path):
    columns = classic()
    size = np.sqrt((columns["mono"].reshape(40, -1) ** 2).sum(axis=1) / columns["N"].ravel())
    some = np.argsort(size)[-2:]
    columns["mono"][some] *= -1
    report = stored(tmp_path, columns)
    assert report.n_quarantined == 2
    (reason,) = report.reasons
    assert "opposite sign" in reason


@pytest.mark.parametrize("factor", [EV, 0.0, -1.0])
def test_a_few_energies_unlike_the_others_are_set_aside(tmp_path, factor):
    columns = roles()
    columns["E"] = columns["E"].astype(np.float64)
    columns["E"][[2, 5]] *= factor
    columns = {key: columns[key] for key in ("Z", "R", "E", "N")}
    report = stored(tmp_path, columns)
    assert report.n_quarantined == 2
    assert all("what its atoms have" in reason for reason in report.reasons)


def binding():
    columns = roles()
    free = {1: -0.5, 6: -37.84, 7: -54.59, 8: -75.07, 9: -99.73, 16: -398.1, 17: -460.15}
    atoms = sum(energy * (columns["Z"] == z).sum(axis=1) for z, energy in free.items())
    n = (columns["Z"] > 0).sum(axis=1)
    return {key: columns[key] for key in ("Z", "R")}, columns["E"] - atoms, n


@pytest.mark.parametrize("unit", [1.0, EV, KCAL])
def test_energies_by_the_atom_are_no_other_unit(tmp_path, unit):
    columns, energy, n = binding()
    try:
        stored(tmp_path, columns | {"E": energy / n * unit})
    except AmbiguityError as question:
        assert ", E:" in str(question)  # noqa: PT017 - a question is as right as the unit
        return
    found = open_store(tmp_path / "a.zarr").energy.to_numpy()
    np.testing.assert_allclose(found, energy / n, rtol=1e-6)


def test_positive_energies_of_binding_are_a_question(tmp_path):
    columns, energy, _ = binding()
    with pytest.raises(AmbiguityError, match=", E:"):
        stored(tmp_path, columns | {"E": -energy * KCAL})


def test_a_file_beside_it_says_nothing_of_energies_from_another_zero(tmp_path):
    columns = {key: value for key, value in roles().items() if key in ("Z", "R", "E")}
    folder = tmp_path / "both"
    folder.mkdir()
    np.savez(folder / "a.npz", **columns)
    relative = (columns["E"] - np.median(columns["E"])) * KCAL
    rng = np.random.default_rng(0)
    np.savez(folder / "b.npz", **columns | {"E": rng.permutation(relative) % 17.0})
    with pytest.raises(AmbiguityError, match=r"b\.npz, E"):
        ingest([folder], tmp_path / "a.zarr")


def test_one_missing_position_does_not_open_the_unit_of_the_esp(tmp_path):
    columns = classic(16)
    columns = {key: columns[key] for key in ("Z", "R", "esp", "vdw_surface", "n_grid")}
    columns["R"][3, 0, 0] = np.nan
    report = stored(tmp_path, columns)
    assert report.schema.sources[0].keys["esp"].unit == "hartree/e"
    assert report.n_quarantined == 1


def test_an_esp_in_charges_by_angstrom_is_told_by_ions(tmp_path):
    with np.load(IONS) as raw:
        columns = {key: raw[key].copy() for key in raw.files}
    expected = columns["esp"] / KCAL
    columns["esp"] = expected / BOHR
    report = stored(tmp_path, columns)
    assert report.schema.sources[0].keys["esp"].unit == "e/angstrom"
    found = open_store(tmp_path / "a.zarr").esp.to_numpy()
    inside = np.nan_to_num(found)
    np.testing.assert_allclose(inside, np.nan_to_num(expected)[:, : inside.shape[1]], atol=1e-6)


def test_a_minus_is_for_what_has_a_sign(tmp_path):
    with pytest.raises(ConfigError, match=r"--declare F=gradient"):
        ingest([ROLES], tmp_path / "a.zarr", declare={"unit.F": "-eV/angstrom"})


def test_quadrupoles_of_the_opposite_sign_are_a_question_that_a_minus_settles(tmp_path):
    with np.load(IONS) as raw:
        columns = {key: raw[key].copy() for key in raw.files}
    unit = stored(tmp_path, columns, "right").schema.sources[0].keys["Q"].unit
    columns["Q"] = -columns["Q"]
    with pytest.raises(AmbiguityError, match=r"Q: its sign is opposite.*unit\.Q=-UNIT"):
        stored(tmp_path, columns, "turned")
    stored(tmp_path, columns, "said", declare={"unit.Q": f"-{unit}"})
    right, said = (open_store(tmp_path / f"{n}.zarr").quadrupole for n in ("right", "said"))
    np.testing.assert_array_equal(said, right)


def test_multiplicities_under_the_name_of_charges_are_a_question(tmp_path):
    columns = {key: classic()[key] for key in ("Z", "R")}
    neutral = np.zeros(40)
    electrons = columns["Z"].sum(axis=1)
    assert stored(tmp_path, columns | {"Q": neutral}, "neutral").n_molecules == 40
    with pytest.raises(AmbiguityError, match="multiplicities"):
        stored(tmp_path, columns | {"Q": 1.0 + electrons % 2}, "multiplicities")
    declared = {"declare": {"Q": "total_charge"}}
    assert stored(tmp_path, columns | {"Q": neutral + 1}, "cations", **declared).n_molecules == 40
    one = {key: np.repeat(values[:1], 40, axis=0) for key, values in columns.items()}
    report = stored(tmp_path, one | {"Q": neutral + 1}, "one")
    assert any("multiplicities" in warning for warning in report.warnings)


@pytest.mark.parametrize("key", ["Z", "note"])
def test_the_unit_of_what_has_none_is_refused(tmp_path, key):
    columns = classic() | {"note": np.arange(40.0)}
    with pytest.raises(ConfigError, match=f"unit.{key}=bohr"):
        stored(tmp_path, columns, declare={f"unit.{key}": "bohr"})


def test_a_second_esp_that_is_another_can_be_left_out(tmp_path, rng):
    columns = classic()
    columns["ESP"] = columns["esp"] * rng.normal(1, 0.3, columns["esp"].shape)
    with pytest.raises(AmbiguityError, match="--declare ESP=unknown"):
        stored(tmp_path, columns)
    report = stored(tmp_path, columns, "again", declare={"ESP": "unknown"})
    assert report.schema.sources[0].keys["esp"].stored_as == "esp"


@pytest.mark.parametrize("unit", ["rydberg", "meV", "cm^-1", "K", "J", "kcal/mol"])
def test_a_unit_that_a_file_names_is_taken_however_seldom(tmp_path, rng, unit):
    columns = roles()
    columns = {key: columns[key] for key in ("Z", "R")}
    columns |= {"E": rng.normal(size=len(columns["Z"])), "e_unit": np.array(unit)}
    report = stored(tmp_path, columns)
    assert report.schema.sources[0].keys["E"].unit == unit


def test_energies_between_molecules_are_none_of_binding(tmp_path):
    pair = Surface.pair(molecules(tmp_path), np.random.default_rng(55))
    columns = {"Z": pair.numbers, "R": pair.positions, "E": pair.energies * KCAL}
    with pytest.raises(AmbiguityError, match="follow no rule"):
        stored(tmp_path, columns)
    report = stored(tmp_path, columns | {"e_unit": np.array("kcal/mol")}, "named")
    assert report.schema.sources[0].keys["E"].unit == "kcal/mol"


@pytest.mark.parametrize("dtype", [np.int64, np.float64])
def test_formal_charges_are_not_taken_for_those_of_atoms(dtype, tmp_path):
    """Whole numbers; the neutral molecules would be set aside, and a model would learn the rest."""
    with np.load(sample_sources()[0]) as raw:
        columns = {key: raw[key][:8] for key in ("Z", "R", "esp", "vdw_surface")}
    columns["charges"] = np.where(columns["Z"] == 8, -1, np.where(columns["Z"] == 6, 1, 0))
    columns["charges"] = columns["charges"].astype(dtype)
    np.savez(tmp_path / "a.npz", **columns)
    with pytest.raises(AmbiguityError, match="as formal charges are"):
        ingest([tmp_path / "a.npz"], tmp_path / "a.zarr")
    report = ingest([tmp_path / "a.npz"], tmp_path / "a.zarr", declare={"charges": "unknown"})
    assert report.n_molecules == 8


@pytest.mark.parametrize("shift", [0.004, -0.006])
def test_an_esp_that_counts_from_another_zero_is_a_question(tmp_path, shift):
    columns = classic()
    some = ("id", "Z", "R", "N", "esp", "vdw_surface", "n_grid", "mono")
    there = columns["vdw_surface"].any(axis=-1)
    columns["esp"] = np.where(there, columns["esp"] + shift, columns["esp"])
    columns = {key: columns[key] for key in some}
    with pytest.raises(AmbiguityError, match="another zero") as question:
        stored(tmp_path, columns)
    found = re.search(r"about (\S+) hartree/e", str(question.value))
    assert float(found.group(1)) == pytest.approx(shift, rel=0.2)
    report = stored(tmp_path, columns, "b", declare={"unit.esp": "hartree/e"})
    assert report.n_molecules == len(columns["Z"])
    assert not validate_store(tmp_path / "b.zarr").problems


def test_single_molecules_whose_esp_is_shifted_are_set_aside(tmp_path):
    columns = classic()
    there = columns["vdw_surface"].any(axis=-1)[:2]
    columns["esp"][:2] = np.where(there, columns["esp"][:2] + 0.01, columns["esp"][:2])
    report = stored(tmp_path, columns)
    assert report.n_quarantined == 2
    assert all("another zero" in reason for reason in report.reasons)


def test_multiplicities_of_a_file_with_ions_are_a_question(tmp_path):
    """Read as charges they leave cations, but not the other molecules, an even number."""
    with np.load(IONS) as raw:
        some = raw["charge"] >= 0
        columns = {"Z": raw["atomic_numbers"][some], "R": raw["positions"][some]}
    columns["Q"] = np.ones(some.sum())
    with pytest.raises(AmbiguityError, match="most molecules an odd number of electrons"):
        stored(tmp_path, columns)


def test_odd_numbers_of_electrons_are_named(tmp_path):
    columns = classic()
    columns = {key: columns[key] for key in ("id", "Z", "R", "N", "mono", "Dxyz")}
    columns["charge"] = np.rint(np.nansum(columns["mono"].reshape(len(columns["Z"]), -1), axis=1))
    assert not any("electrons is" in w for w in stored(tmp_path, columns).warnings)
    rows = np.argsort(-np.linalg.norm(columns["Dxyz"], axis=1))[-2:]  # little else shows it
    columns["Z"][rows, 0] += 1
    report = stored(tmp_path, columns, "b")
    assert any("in 2 molecules, the number of electrons is odd" in w for w in report.warnings)
