"""ESPs as quantum chemistry programs write them."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline import ingest, open_store, read_schema
from pipeline.adapters import discover
from pipeline.chemistry.radii import van_der_waals_radii
from pipeline.chemistry.shells import shell_points
from store_schema.problems import SourceError
from tests.hostile import mutate
from tests.pipeline.adapters.test_hostile_formats import FEW, MANY, check_outcomes
from tests.pipeline.adapters.written_esps import ESP_WRITERS, Molecule, gaussian, orca

WATER = np.array([[0.0, 0.0, 0.119], [0.0, 0.763, -0.477], [0.0, -0.763, -0.477]])
MOLECULES = {
    "water": Molecule([8, 1, 1], WATER, [-0.74, 0.37, 0.37]),
    "hydroxide": Molecule([8, 1], WATER[:2], [-1.2, 0.2]),
    "ammonium": Molecule(
        [7, 1, 1, 1, 1],
        np.array([[0, 0, 0], [1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]]) * 0.5901,
        [-0.6, 0.4, 0.4, 0.4, 0.4],
    ),
}


def points_of(molecule, n=300):
    return shell_points(molecule.numbers, molecule.positions, n, np.random.default_rng(0))


def written(folder, program):
    for name, molecule in MOLECULES.items():
        yield ESP_WRITERS[program](folder, molecule, points_of(molecule), name)


@pytest.mark.parametrize("program", ESP_WRITERS)
def test_a_folder_of_a_programs_files_is_a_store(program, tmp_path):
    list(written(tmp_path, program))
    report = ingest([tmp_path], tmp_path / "a.zarr")
    assert report.reasons == {}
    found = open_store(tmp_path / "a.zarr").to_dataset().load()
    names = [str(name).removesuffix("/grid_esp") for name in found.molecule_id.values]
    assert sorted(names) == sorted(MOLECULES)
    (record,) = read_schema(tmp_path / "a.zarr").sources
    assert record.convention == program
    for row, name in enumerate(names):
        one, molecule = found.isel(molecule=row), MOLECULES[name]
        n, n_grid = int(one.n_atoms), int(one.n_grid)
        np.testing.assert_array_equal(one.atomic_numbers[:n], molecule.numbers)
        np.testing.assert_allclose(one.positions[:n], molecule.positions, atol=2e-6)
        assert float(one.total_charge) == molecule.total_charge
        expected = molecule.esp(one.vdw_surface.values[:n_grid].astype(np.float64))
        np.testing.assert_allclose(one.esp[:n_grid], expected, atol=2e-5)
        if program != "cube":
            np.testing.assert_allclose(one.vdw_surface[:n_grid], points_of(molecule), atol=2e-6)
    if program == "gaussian":
        water = MOLECULES["water"]
        dipole = found.dipole.values[names.index("water")]
        np.testing.assert_allclose(dipole, water.charges @ water.positions, atol=1e-4)


def test_points_of_a_cube_lie_in_a_band(tmp_path):
    path, *_ = written(tmp_path, "cube")
    (source,) = discover([path])
    block = source.sample(np.array([0])).columns
    distance = np.linalg.norm(block["esp_grid"][0][:, None] - WATER, axis=-1)
    nearest = (distance / van_der_waals_radii(np.array([8, 1, 1]))).min(axis=1)
    assert 1000 < len(nearest) <= 2000
    assert 1.4 <= nearest.min() < 1.45
    assert 2.15 < nearest.max() <= 2.2


def test_the_last_esp_of_a_log_is_read(tmp_path):
    first = gaussian(tmp_path, MOLECULES["water"], points_of(MOLECULES["water"]), "first")
    moved = Molecule([8, 1, 1], WATER * 1.02, [-0.7, 0.35, 0.35])
    second = gaussian(tmp_path, moved, points_of(moved), "second")
    (tmp_path / "both.log").write_text(first.read_text() + second.read_text())
    (source,) = discover([tmp_path / "both.log"])
    block = source.sample(np.array([0])).columns
    np.testing.assert_allclose(block["positions"][0], moved.positions, atol=1e-6)
    np.testing.assert_allclose(block["esp"][0], moved.esp(points_of(moved)), atol=1e-6)


def cut(path, word):
    path.write_text("\n".join(line for line in path.read_text().splitlines() if word not in line))


@pytest.mark.parametrize(
    ("word", "said"),
    [(" Fit ", "0 values"), ("ESP Fit Center", "at 0 points"), ("orientation:", "no table")],
)
def test_a_log_without_its_esp_is_refused(word, said, tmp_path):
    path = gaussian(tmp_path, MOLECULES["water"], points_of(MOLECULES["water"]))
    if word == " Fit ":
        lines = [x for x in path.read_text().splitlines() if " Fit " not in x or "Center" in x]
        path.write_text("\n".join(lines))
    else:
        cut(path, word)
    with pytest.raises(SourceError, match=said):
        discover([path])


def test_an_esp_without_its_atoms_is_refused(tmp_path):
    path = orca(tmp_path, MOLECULES["water"], points_of(MOLECULES["water"]))
    (tmp_path / "job.xyz").unlink()
    with pytest.raises(SourceError, match=r"no job\.xyz in its folder"):
        discover([path])


def test_a_density_is_no_esp(tmp_path):
    """A cube of something else, which no charges explain."""
    path, *_ = written(tmp_path, "cube")
    head = path.read_text().splitlines()[: 6 + len(WATER)]
    values = np.abs(np.random.default_rng(0).normal(size=25**3))
    path.write_text("\n".join([*head, *(f"{v:.6e}" for v in values)]) + "\n")
    with pytest.raises(SourceError):
        ingest([path], tmp_path / "a.zarr", declare={"total_charge": "0"})


def try_all(program, folder, seeds):
    paths, done = [], []
    for seed in seeds:
        (place := folder / str(seed)).mkdir()
        paths.append(next(written(place, program)))
        done.append(f"seed {seed}: {mutate(paths[-1].parent, np.random.default_rng(seed))}")
    check_outcomes(paths, done)


@pytest.mark.parametrize("program", ESP_WRITERS)
def test_mutated_esps_are_stored_or_one_error(program, tmp_path):
    try_all(program, tmp_path, range(FEW))


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("program", ESP_WRITERS)
def test_many_mutated_esps_are_stored_or_one_error(program, tmp_path):
    try_all(program, tmp_path, range(FEW, FEW + MANY))
