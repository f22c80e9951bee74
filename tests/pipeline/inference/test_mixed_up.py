"""Values in another order than their keys say: asked about, never stored."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline import ingest, open_store
from pipeline.sample import sample_sources
from store_schema.problems import AmbiguityError, DcmError, SourceError
from store_schema.units import parse_unit

CLASSIC, _, ROLES, _ = sample_sources()


def roles():
    with np.load(ROLES / "energies_forces_dipoles.npz") as raw:
        return {key: raw[key].copy() for key in ("Z", "R", "E", "F", "N")}


def stored(folder, columns, name="a", **declare):
    np.savez(folder / f"{name}.npz", **columns)
    return ingest([folder / f"{name}.npz"], folder / f"{name}.zarr", declare=declare)


def concatenated(n, sizes="N"):
    columns = roles()
    some = [np.flatnonzero(columns["Z"][row] > 0) for row in range(n)]
    parts = {key: [columns[key][row][atoms] for row, atoms in enumerate(some)] for key in "ZR"}
    return {key: np.concatenate(rows) for key, rows in parts.items()} | {
        "E": columns["E"][:n],
        sizes: np.array([len(atoms) for atoms in some]),
    }


@pytest.mark.parametrize("n", range(3, 13))
def test_atoms_one_after_the_other_need_their_numbers(tmp_path, n):
    columns = concatenated(n, "sizes")
    with pytest.raises(DcmError):
        stored(tmp_path, columns)
    even = {"Z": columns["Z"][: 4 * n], "R": columns["R"][: 4 * n], "E": columns["E"]}
    with pytest.raises(SourceError, match="one after the other"):
        stored(tmp_path, even, "even")
    assert stored(tmp_path, columns, "declared", sizes="n_atoms").n_molecules == n


@pytest.mark.parametrize("alias", ["N", "num_atoms", "natom"])
def test_the_numbers_of_atoms_have_many_names(tmp_path, alias):
    assert stored(tmp_path, concatenated(8, alias)).n_molecules == 8


@pytest.mark.parametrize("pad", [0, -1])
def test_an_index_of_elements_is_not_taken_for_atomic_numbers(tmp_path, pad):
    columns = roles()
    index = np.full(120, -5)
    index[[1, 6, 7, 8, 9, 16, 17]] = np.arange(7)
    real = columns["Z"] > 0
    columns["Z"] = np.where(real, index[columns["Z"]], pad)
    with pytest.raises(DcmError):
        stored(tmp_path, columns)


@pytest.mark.parametrize("key", ["R", "F"])
def test_axes_in_another_order_are_asked_about(tmp_path, key):
    columns = roles()
    columns[key] = columns[key].transpose(0, 2, 1).reshape(columns[key].shape).copy()
    with pytest.raises(DcmError):
        stored(tmp_path, columns)


def test_forces_of_other_molecules_are_asked_about(tmp_path):
    columns = roles()
    n = 24
    columns = {key: np.repeat(values[:1], n, axis=0) for key, values in columns.items()}
    rng = np.random.default_rng(0)
    real = (columns["Z"] > 0)[..., None]
    step = np.where(real, rng.normal(scale=0.03, size=columns["R"].shape), 0.0)
    columns["R"] = columns["R"] + step
    columns["E"] = columns["E"] + 0.5 * (step**2).sum(axis=(1, 2))
    columns["F"] = -(step - step.sum(axis=1, keepdims=True) * real / real.sum(axis=1)[:, None])
    columns["F"] = columns["F"][rng.permutation(n)]
    with pytest.raises(AmbiguityError, match=r", F: .*(work does not follow|turn the mol)"):
        stored(tmp_path, columns)


def reversed_atoms(forces, n_atoms):
    for row, n in enumerate(n_atoms):
        forces[row, :n] = forces[row, :n][::-1].copy()
    return forces


def turned(forces, _):
    rng = np.random.default_rng(0)
    frames, _ = np.linalg.qr(rng.normal(size=(len(forces), 3, 3)))
    return np.einsum("mxy,may->max", frames, forces)


MISPLACED = {
    "axes": lambda forces, _: forces[..., [1, 2, 0]],
    "mirrored": lambda forces, _: forces * [-1, 1, 1],
    "atoms": reversed_atoms,
    "frames": turned,
}


@pytest.mark.parametrize("unit", [None, "hartree/angstrom"])
@pytest.mark.parametrize("how", MISPLACED)
def test_forces_that_turn_the_molecules_are_asked_about(tmp_path, how, unit):
    """Neither changes their sum; forces of another frame even follow no energy by chance."""
    columns = roles()
    columns["F"] = MISPLACED[how](columns["F"], (columns["Z"] > 0).sum(axis=1))
    words = {} if unit is None else {"F_unit": np.array(unit)}
    with pytest.raises(AmbiguityError, match="turn the molecules"):
        stored(tmp_path, columns | words)


@pytest.mark.parametrize("text", ["J/mol", "J mol-1", "MeV", "uHartree"])
def test_a_unit_that_is_not_known_is_not_another(tmp_path, text):
    with pytest.raises(ValueError, match="not a unit"):
        parse_unit(text, "energy")
    columns = {key: roles()[key] for key in "ZRE"}
    with pytest.raises(AmbiguityError, match="e_unit says"):
        stored(tmp_path, columns | {"e_unit": np.array(text)})
    report = stored(tmp_path, columns | {"e_unit": np.array(text)}, "b", **{"unit.E": "hartree"})
    assert report.schema.sources[0].keys["E"].unit == "hartree"


def test_padding_by_minus_one_is_one_line(tmp_path):
    columns = roles()
    absent = columns["Z"] == 0
    columns["Z"] = np.where(absent, -1, columns["Z"])
    columns["R"][absent] = 999.0
    with pytest.raises(DcmError):
        stored(tmp_path, columns)


@pytest.mark.parametrize("number", [-5, 119, 2**31 - 1, 2**60])
def test_a_number_of_no_element_costs_its_molecule_alone(tmp_path, number):
    """Also one that a table of all numbers below it would have no memory for."""
    columns = roles()
    columns["Z"] = columns["Z"].astype(np.int64)
    columns["Z"][3, 0] = number
    report = stored(tmp_path, columns)
    assert report.n_molecules == len(columns["E"]) - 1
    energies = open_store(tmp_path / "a.zarr").to_dataset().energy
    np.testing.assert_allclose(energies, np.delete(columns["E"], 3))


def test_deuterium_is_hydrogen(tmp_path):
    columns = {key: roles()[key] for key in "ZR"}
    symbols = np.array(["", "D", *["?"] * 4, "C", "N", "O", "F"])
    known = np.isin(columns["Z"], [0, 1, 6, 7, 8, 9]).all(axis=1)
    columns = {"Z": symbols[columns["Z"][known]], "R": columns["R"][known]}
    stored(tmp_path, columns)
    assert 1 in open_store(tmp_path / "a.zarr").to_dataset().atomic_numbers


def test_a_grid_that_was_left_behind_is_a_question(tmp_path):
    with np.load(CLASSIC) as raw:
        columns = {key: raw[key][:40].copy() for key in raw.files}
    real = columns["Z"] > 0
    weight = np.where(real, columns["Z"], 0)[..., None]
    center = (weight * columns["R"]).sum(axis=1) / weight.sum(axis=1)
    length = np.linalg.norm(center, axis=1, keepdims=True)
    columns["R"] = columns["R"] - 0.5 * (center / length)[:, None] * real[..., None]
    with pytest.raises(AmbiguityError, match=r"vdw_surface: .*moved by 0\.[4-6]"):
        stored(tmp_path, columns)
    report = stored(tmp_path, columns, "b", vdw_surface="vdw_surface")
    assert report.n_molecules


@pytest.mark.parametrize("key", ["ptr", "batch"])
def test_the_index_of_a_graph_says_where_molecules_end(tmp_path, key):
    columns = concatenated(8)
    n_atoms = columns.pop("N")
    index = np.r_[0, n_atoms.cumsum()] if key == "ptr" else np.repeat(np.arange(8), n_atoms)
    assert stored(tmp_path, columns | {key: index}).n_molecules == 8
    found = open_store(tmp_path / "a.zarr").to_dataset()
    np.testing.assert_array_equal(found["n_atoms"], n_atoms)
    shuffled = np.roll(index, 1)
    with pytest.raises(DcmError):
        stored(tmp_path, columns | {key: shuffled}, "b")


@pytest.mark.parametrize("written", ["{:+d}", "{}", "{}.0"])
def test_net_charges_may_be_text(tmp_path, written):
    with np.load(CLASSIC.parent / sample_sources()[1].name) as raw:
        columns = {key: raw[key].copy() for key in raw.files}
    charges = columns["charge"]
    text = np.array([written.format(int(charge)) for charge in charges])
    stored(tmp_path, columns | {"charge": text})
    found = open_store(tmp_path / "a.zarr").to_dataset()["total_charge"]
    assert sorted(found.values) == sorted(charges)
    with pytest.raises(DcmError):
        stored(tmp_path, columns | {"charge": np.full(len(text), "anion")}, "b")


@pytest.mark.parametrize("suffix", [".csv", ".txt", ".parquet"])
def test_a_table_is_called_no_format_and_not_a_damaged_one(tmp_path, suffix):
    (tmp_path / f"a{suffix}").write_text("a,b\n1,2\n")
    with pytest.raises(SourceError, match=f"{suffix} is no format of reference data"):
        ingest([tmp_path / f"a{suffix}"], tmp_path / "a.zarr")


@pytest.mark.parametrize("written", [["eV", "angstrom"], [b"eV", b"angstrom"]])
def test_a_list_of_units_may_be_an_array(tmp_path, written):
    columns = {key: roles()[key] for key in "ZRE"}
    columns["E"] = columns["E"] * 27.211386
    report = stored(tmp_path, columns | {"units": np.array(written)})
    assert report.schema.sources[0].keys["E"].unit == "eV"
    with pytest.raises(AmbiguityError, match="hartree"):
        stored(tmp_path, columns | {"units": np.array(["hartree", "angstrom"])}, "b")
