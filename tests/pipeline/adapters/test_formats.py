"""The same molecules in any format make the same store."""

from __future__ import annotations

import pickle

import ase
import ase.io
import h5py
import numpy as np
import pytest

from pipeline import ingest, read_schema
from pipeline.adapters import discover
from pipeline.sample import sample_sources
from store_schema.problems import AmbiguityError, SourceError
from store_schema.units import BOHR_IN_ANGSTROM
from tests.pipeline.adapters.written_formats import (
    HDF5,
    XYZ,
    flat_hdf5,
    molecule_groups,
    stored,
    water,
)
from tests.pipeline.inference.open_units import ATOMS

N = 9
VARIABLES = ("atomic_numbers", "positions", "total_charge", "monopoles", "esp", "vdw_surface")


@pytest.fixture(scope="module")
def classic():
    with np.load(sample_sources()[0]) as raw:
        return {
            key: raw[key][:N].copy() for key in ("Z", "R", "esp", "vdw_surface", "mono", "n_grid")
        }


@pytest.fixture(scope="module")
def counts(classic):
    return (classic["Z"] > 0).sum(axis=1)


@pytest.fixture(scope="module")
def expected(classic, tmp_path_factory):
    folder = tmp_path_factory.mktemp("expected")
    np.savez(folder / "a.npz", **classic)
    return stored(folder / "a.npz", folder / "a.zarr")


def assert_same(found, expected, names=VARIABLES):
    for name in names:
        left, right = found[name].values, expected[name].values
        width = tuple(slice(min(pair)) for pair in zip(left.shape, right.shape, strict=True))
        np.testing.assert_allclose(left[width], right[width], rtol=1e-6, atol=1e-7, err_msg=name)


@pytest.mark.parametrize("layout", HDF5)
def test_hdf5_is_the_npz(layout, classic, counts, expected, tmp_path):
    columns = {key: array for key, array in classic.items() if key != "n_grid"}
    path = HDF5[layout](tmp_path / "a", columns, counts, classic["n_grid"].reshape(-1))
    found = stored(path, tmp_path / "a.zarr")
    assert_same(found, expected)
    np.testing.assert_array_equal(found.n_grid, expected.n_grid)


@pytest.mark.parametrize("options", [{"compression": "gzip"}, {"chunks": True}, {"shuffle": True}])
def test_filters_of_hdf5_make_no_difference(options, classic, counts, expected, tmp_path):
    path = flat_hdf5(tmp_path / "a", classic, counts, **options)
    assert_same(stored(path, tmp_path / "a.zarr"), expected)


@pytest.mark.parametrize("layout", XYZ)
def test_frames_are_the_npz(layout, classic, counts, expected, tmp_path):
    columns = {key: classic[key] for key in ("Z", "R", "mono")}
    found = stored(XYZ[layout](tmp_path / "a", columns, counts), tmp_path / "a.zarr")
    assert_same(found, expected, ("atomic_numbers", "positions", "total_charge", "monopoles"))


@pytest.mark.parametrize("layout", [*HDF5, *XYZ])
def test_any_step_reads_the_same(layout, classic, counts, tmp_path):
    columns = {key: classic[key] for key in ("Z", "R", "mono")}
    (source,) = discover([{**HDF5, **XYZ}[layout](tmp_path / "a", columns, counts)])
    source = pickle.loads(pickle.dumps(source))
    whole = next(source.blocks(N)).columns
    for step in (1, 2, 4):
        parts = [block.columns for block in source.blocks(step)]
        for key, values in whole.items():
            np.testing.assert_array_equal(np.concatenate([p[key] for p in parts]), values)
    for rows in ([0, 3, 7], [4], [2, 3, 8]):
        some = source.sample(np.array(rows)).columns
        for key, values in whole.items():
            np.testing.assert_array_equal(some[key], values[rows])


def spice(folder, rng):
    """A file as SPICE's: conformations in bohr, units in attributes, parts of it missing."""
    with np.load(sample_sources()[0]) as raw:
        numbers, positions, charges = raw["Z"], raw["R"], raw["mono"].reshape(raw["Z"].shape)
    units = {
        "conformations": "bohr",
        "dft_total_energy": "hartree",
        "mbis_charges": "elementary_charge",
        "mbis_dipoles": "elementary_charge*bohr",
        "mbis_quadrupoles": "elementary_charge*bohr**2",
        "mbis_octupoles": "elementary_charge*bohr**3",
    }
    units["dft_total_gradient"] = "hartree/bohr"
    kept = []
    with h5py.File(folder / "spice.hdf5", "w") as file:
        for row in range(6):
            n = int((numbers[row] > 0).sum())
            total = sum(ATOMS[number] for number in numbers[row, :n]) - 0.1 * n
            moved = positions[row, :n] + rng.normal(scale=0.02, size=(4, n, 3))
            values = {
                "conformations": (moved / BOHR_IN_ANGSTROM).astype(np.float32),
                "dft_total_energy": total + rng.normal(scale=0.01, size=4),
                "mbis_charges": np.repeat(charges[row, None, :n, None], 4, axis=0),
                **{
                    f"mbis_{name}": 0.1 * rng.normal(size=(4, n, *[3] * order)).astype(np.float32)
                    for order, name in enumerate(("dipoles", "quadrupoles", "octupoles"), 1)
                },
            }
            if row == 2:
                values["mbis_charges"] = np.zeros((0,))
                del values["mbis_octupoles"]
            group = file.create_group(f"{row} a name")
            group["atomic_numbers"] = numbers[row, :n].astype(np.int16)
            group.create_dataset("smiles", data=[f"smiles of {row}"], dtype=h5py.string_dtype())
            group.create_dataset("subset", data=[b"a subset"], dtype=h5py.string_dtype())
            for key, value in values.items():
                group[key] = value
                if key in units:
                    group[key].attrs["units"] = units[key]
            kept.append((numbers[row, :n], moved, values))
    return folder / "spice.hdf5", kept


def test_a_file_as_spice_is_read(tmp_path, rng):
    path, truth = spice(tmp_path, rng)
    found = stored(path, tmp_path / "s.zarr")
    keys = read_schema(tmp_path / "s.zarr").sources[0].keys
    assert keys["conformations"].unit == "bohr"
    assert found.sizes["molecule"] == 24
    assert found.molecule_id.values[5] == "1 a name/1"
    for row, (numbers, moved, values) in enumerate(truth):
        some = found.isel(molecule=slice(4 * row, 4 * row + 4))
        n = len(numbers)
        np.testing.assert_array_equal(some.atomic_numbers.values[:, :n], np.tile(numbers, (4, 1)))
        np.testing.assert_allclose(some.positions.values[:, :n], moved, atol=1e-5)
        np.testing.assert_allclose(some.energy, values["dft_total_energy"], atol=1e-3)
        assert set(some.smiles.values) == {f"smiles of {row}"}
        if row == 2:
            assert np.isnan(some.monopoles).all()
            assert np.isnan(some.atomic_octupoles).all()
        else:
            np.testing.assert_allclose(
                some.monopoles.values[:, :n], values["mbis_charges"][..., 0], rtol=1e-6
            )
            for order, name in enumerate(("dipoles", "quadrupoles", "octupoles"), 1):
                ours = some[f"atomic_{name}"].values[:, :n] / BOHR_IN_ANGSTROM**order
                np.testing.assert_allclose(ours, values[f"mbis_{name}"], rtol=1e-5, atol=1e-6)


def test_groups_by_size_hold_the_atoms_of_each(classic, counts, expected, tmp_path):
    """As ANI-2x: all molecules of as many atoms in one group."""
    order = np.argsort(counts, kind="stable")
    with h5py.File(tmp_path / "ani.h5", "w") as file:
        for n in np.unique(counts):
            rows = np.flatnonzero(counts == n)
            group = file.create_group(f"{n:03}")
            group["species"] = classic["Z"][rows, :n]
            group["coordinates"] = classic["R"][rows, :n].astype(np.float32)
    found = stored(tmp_path / "ani.h5", tmp_path / "a.zarr")
    np.testing.assert_array_equal(found.n_atoms, counts[order])
    np.testing.assert_allclose(
        found.positions, expected.positions.values[order][:, : counts.max()], atol=1e-6
    )


def test_atoms_given_once_further_up_are_those_of_all_below(tmp_path):
    """As QM7-X, with the atoms in the group of the molecule."""
    water = np.array([[0, 0, 0.119], [0, 0.763, -0.477], [0, -0.763, -0.477]])
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["molecules/water/atNUM"] = [8, 1, 1]
        for index in range(3):
            group = file.create_group(f"molecules/water/geometry{index}")
            group["atXYZ"] = water * (1 + 0.01 * index)
            group["properties/note"] = 1.5 * index
    found = stored(tmp_path / "a.h5", tmp_path / "a.zarr")
    np.testing.assert_array_equal(found.atomic_numbers, [[8, 1, 1]] * 3)
    np.testing.assert_allclose(found.note, [0.0, 1.5, 3.0])


def test_a_folder_with_npz_files_is_those(classic, tmp_path):
    np.savez(tmp_path / "a.npz", **classic)
    ase.io.write(tmp_path / "a.xyz", water())
    (source,) = discover([tmp_path])
    assert source.convention == "padded"


def test_a_folder_of_two_other_formats_is_a_question(classic, counts, tmp_path):
    molecule_groups(tmp_path / "a", classic, counts)
    ase.io.write(tmp_path / "a.xyz", water())
    with pytest.raises(SourceError, match="several formats"):
        discover([tmp_path])


def grouped(folder, records):
    with h5py.File(folder / "a.h5", "w") as file:
        for index, arrays in enumerate(records):
            for key, array in arrays.items():
                file[f"{index:03}/{key}"] = array
    return folder / "a.h5"


WATER = water().positions


def test_groups_without_a_molecule_are_named(tmp_path):
    records = [{"Z": [8, 1, 1], "R": WATER}, {"Z": [8, 1, 1]}, {"R": WATER}]
    records.append({"Z": [8, 1, 1], "R": np.zeros((0, 3, 3))})
    report = ingest([grouped(tmp_path, records)], tmp_path / "a.zarr")
    assert report.n_molecules == 1
    assert any("/001 and 2 groups more" in warning for warning in report.warnings)


def test_names_that_no_record_has_two_of_are_one(tmp_path):
    records = [
        {"atomic_numbers": [8, 1, 1], "coordinates": WATER, "charge": 0},
        {"Z": [8, 1, 1], "R": WATER + 1, "Charge": -1},
    ]
    found = stored(grouped(tmp_path, records), tmp_path / "a.zarr")
    np.testing.assert_allclose(found.positions, [WATER, WATER + 1], atol=1e-6)
    assert found.total_charge.values.tolist() == [0, -1]


def test_energies_under_two_names_are_not_taken_for_one(tmp_path):
    records = [{"Z": [8, 1, 1], "R": WATER, key: -76.3} for key in ("E", "total_energy") * 4]
    with pytest.raises(AmbiguityError, match=r"total_energy.*different molecules"):
        ingest([grouped(tmp_path, records)], tmp_path / "a.zarr")


def test_atomic_numbers_may_be_a_column(tmp_path):
    """As modelforge writes them, once for all geometries."""
    geometries = np.stack([WATER, WATER * 1.01]) / 10  # nm
    records = [{"atomic_numbers": np.array([[8], [1], [1]]), "positions": geometries}] * 2
    found = stored(grouped(tmp_path, records), tmp_path / "a.zarr")
    np.testing.assert_allclose(found.positions[0], WATER, atol=1e-6)


def test_what_may_be_of_atoms_or_of_geometries_is_not_stored(tmp_path):
    geometries = np.stack([WATER, WATER * 1.01, WATER * 0.99])
    records = [{"Z": [8, 1, 1], "R": geometries, "weights": np.arange(3.0)}] * 2
    for several in (records, records[:1]):
        report = ingest([grouped(tmp_path, several)], tmp_path / f"{len(several)}.zarr")
        assert any("weights is not stored" in warning for warning in report.warnings)


def test_forces_of_some_molecules_are_those_of_them(tmp_path, rng):
    """The work of forces that are missing is not zero."""
    bonds, positions = [(0, 1), (0, 2)], []
    records = []
    for index in range(60):
        moved = WATER + rng.normal(scale=0.03, size=WATER.shape)
        energy, forces = -76.3, np.zeros((3, 3))
        for i, j in bonds:
            step = moved[j] - moved[i]
            length = np.linalg.norm(step)
            energy += 0.5 * 1.9 * (length - 0.968) ** 2
            pull = 1.9 * (length - 0.968) * step / length
            forces[i] += pull
            forces[j] -= pull
        positions.append(moved)
        record = {"Z": [8, 1, 1], "R": moved, "E": energy}
        records.append(record | ({"F": forces} if index % 4 == 0 else {}))
    found = stored(grouped(tmp_path, records), tmp_path / "a.zarr", declare={"unit.E": "hartree"})
    assert np.isfinite(found.forces.values).all(axis=(1, 2)).sum() == 15


def test_geometries_of_a_molecule_stay_in_one_split(tmp_path):
    """Those of a group, and those of groups of as many atoms; parts of a file are no molecules."""
    methane = np.array([[0, 0, 0], [1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]]) * 0.629
    shapes = {"O": ([8, 1, 1], WATER), "C": ([6, 1, 1, 1, 1], methane)}
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for name, (numbers, positions) in shapes.items():
            for index in range(3):
                file[f"by molecule/{name}/{index}/Z"] = numbers
                file[f"by molecule/{name}/{index}/R"] = positions * (1 + 0.01 * index)
            file[f"together/{name}/Z"] = numbers
            file[f"together/{name}/R"] = np.stack([positions, positions * 1.01])
            file[f"parts/{name}/Z"], file[f"parts/{name}/R"] = numbers, positions
    found = stored(tmp_path / "a.h5", tmp_path / "a.zarr")
    groups = {name.rpartition("/")[0] or name for name in found.molecule_id.values}
    kept = {"by molecule:O", "by molecule:C", "together:O", "together:C", "parts:O", "parts:C"}
    assert groups == kept
