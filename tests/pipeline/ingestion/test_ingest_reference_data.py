"""Every file of the reference data, ingested without a declaration, has its true values."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from pipeline import ingest, open_store
from pipeline.store.metadata import read_nodes
from store_schema.semantics import QUADRUPOLE_COMPONENTS

DATA = Path(__file__).resolve().parents[4] / "shared" / "data"
pytestmark = pytest.mark.skipif(not DATA.exists(), reason="the reference data is not here")

# Written out here, so that the test does not share its conversions with the code.
BOHR, HARTREE_EV, KCAL, DEBYE = 0.529177210903, 27.211386245988, 627.509474, 0.2081943


@pytest.fixture(scope="module")
def together(tmp_path_factory) -> tuple[xr.Dataset, object]:
    store = tmp_path_factory.mktemp("all") / "all.zarr"
    report = ingest([DATA], store)
    return open_store(store).to_dataset().load(), report


def source(together, name: str) -> tuple[xr.Dataset, dict]:
    """Molecules and key records of one source of the common store."""
    dataset, report = together
    for record in report.schema.sources:
        if any(file.name == name for file in record.files):
            rows = slice(record.first_molecule, record.first_molecule + record.n_molecules)
            return dataset.isel(molecule=rows), record
    raise AssertionError(name)


def assert_close(stored, expected, atol: float) -> None:
    """Compares what is there; what is beyond the expected width is missing."""
    stored = np.asarray(stored)
    inside = tuple(map(slice, expected.shape))
    np.testing.assert_allclose(stored[inside], expected, rtol=0, atol=atol)


def unpadded(values: np.ndarray, counts: np.ndarray) -> np.ndarray:
    out = np.array(values, dtype=np.float64)
    out[np.arange(out.shape[1]) >= counts[:, None]] = np.nan
    return out


def check(together, name, *, R, Z, grid, esp, n_grid, units=(1.0, 1.0, 1.0), **others):
    """Structure and ESP of a padded file against the raw arrays."""
    dataset, record = source(together, name)
    length, grid_length, potential = units
    n_atoms = (Z > 0).sum(axis=1)
    np.testing.assert_array_equal(dataset.n_atoms, n_atoms)
    np.testing.assert_array_equal(dataset.n_grid, n_grid)
    np.testing.assert_array_equal(
        dataset.atomic_numbers.to_numpy()[:, : n_atoms.max()], Z[:, : n_atoms.max()]
    )
    atoms, points = n_atoms.max(), n_grid.max()
    assert_close(dataset.positions, unpadded(R, n_atoms)[:, :atoms] * length, 2e-4)
    assert_close(dataset.vdw_surface, unpadded(grid, n_grid)[:, :points] * grid_length, 2e-4)
    assert_close(dataset.esp, unpadded(esp, n_grid)[:, :points] * potential, 2e-6)
    assert np.isnan(dataset.esp.to_numpy()[:, points:]).all()
    assert record.n_quarantined == 0
    return dataset, record


def real_points(grid: np.ndarray) -> np.ndarray:
    """Counts points that are no padding, the slow way."""
    good = np.isfinite(grid).all(-1) & (np.abs(grid) < 1000).all(-1) & (grid != 0).any(-1)
    return good.sum(axis=1)


def test_everything_is_there(together):
    dataset, report = together
    assert report.n_molecules == 426 + 220 + 40 + 5 + 24 + 241 + 139
    assert report.n_quarantined == 0
    assert dataset.sizes["molecule"] == report.schema.n_molecules == report.n_molecules
    assert {record.convention for record in report.schema.sources} == {
        "padded",
        "split_by_role",
        "single_molecule",
    }


def test_qm_classic(together):
    raw = np.load(DATA / "qm_classic.npz")
    dataset, record = check(
        together,
        "qm_classic.npz",
        R=raw["R"],
        Z=raw["Z"],
        grid=raw["vdw_surface"],
        esp=raw["esp"],
        n_grid=raw["n_grid"],
    )
    n_atoms = raw["N"][:, 0]
    assert_close(
        dataset.monopoles, unpadded(raw["mono"][..., 0], n_atoms)[:, : n_atoms.max()], 1e-6
    )
    assert_close(dataset.dipole, raw["Dxyz"] * BOHR, 2e-3)
    assert_close(dataset.dipole_magnitude, raw["D"] * DEBYE, 2e-3)
    assert_close(dataset.center_of_mass, raw["com"], 2e-4)
    assert_close(dataset.total_charge, np.zeros(426), 0)
    assert record.keys["total_charge"].semantics_from == "derived"
    assert record.keys["D"].semantics == "dipole_magnitude"
    assert record.keys["Dxyz"].unit == "e*bohr"
    assert record.keys["Dxyz"].evidence
    assert list(dataset.molecule_id.to_numpy()) == list(raw["id"])


def test_split_by_role(together):
    first = np.load(DATA / "split_by_role" / "energies_forces_dipoles.npz")
    second = np.load(DATA / "split_by_role" / "grids_esp.npz")
    dataset, record = check(
        together,
        "grids_esp.npz",
        R=first["R"],
        Z=first["Z"],
        grid=second["esp_grid"],
        esp=second["esp"],
        n_grid=real_points(second["esp_grid"]),
    )
    assert len(record.files) == 2
    assert_close(dataset.energy, first["E"], 1e-9)
    width = first["N"].max()
    assert_close(dataset.forces, unpadded(first["F"], first["N"])[:, :width], 1e-6)
    assert_close(dataset.dipole, first["D"], 1e-6)
    assert_close(dataset.total_charge, first["Q"], 0)
    assert np.isnan(dataset.monopoles).all()
    assert record.keys["Q"].semantics == "total_charge"
    assert record.keys["F"].unit == "hartree/angstrom"


def test_one_file_a_molecule(together):
    dataset, _ = source(together, "000_esp_pyscf.npz")
    files = sorted((DATA / "one_file_per_molecule").glob("*.npz"))
    assert len(files) == dataset.sizes["molecule"]
    for row, path in enumerate(files):
        raw, stored = np.load(path), dataset.isel(molecule=row)
        assert str(stored.molecule_id.to_numpy()) == path.stem
        assert int(stored.n_atoms) == len(raw["Z"])
        assert int(stored.n_grid) == len(raw["esp"])
        np.testing.assert_array_equal(stored.atomic_numbers[: len(raw["Z"])], raw["Z"])
        assert_close(stored.positions, raw["R"], 2e-4)
        assert_close(stored.vdw_surface, raw["esp_grid"], 2e-4)
        assert_close(stored.esp, raw["esp"], 2e-6)
        assert_close(stored.dipole, raw["dipole"] * DEBYE, 2e-3)
        assert_close(stored.quadrupole, raw["quadrupole"] * DEBYE, 2e-3)
        assert float(stored.total_charge) == 0


def test_six_atoms_are_not_six_charges(together):
    raw = np.load(DATA / "six_atoms_q6.npz")
    dataset, record = check(
        together,
        "six_atoms_q6.npz",
        R=raw["R"],
        Z=raw["Z"],
        grid=raw["esp_grid"],
        esp=raw["esp"],
        n_grid=real_points(raw["esp_grid"]),
    )
    for column, (i, j) in enumerate(QUADRUPOLE_COMPONENTS):
        assert_close(dataset.quadrupole[:, i, j], raw["Q"][:, column] * BOHR**2, 2e-3)
        assert_close(dataset.quadrupole[:, j, i], raw["Q"][:, column] * BOHR**2, 2e-3)
    assert_close(dataset.dipole_magnitude, raw["D"] * DEBYE, 2e-3)
    assert np.isnan(dataset.monopoles).all()
    expected = np.array([float("[NH2+]" in name) for name in raw["id"]])
    np.testing.assert_array_equal(dataset.total_charge, expected)
    assert record.keys["Q"].semantics == "quadrupole_components"


def test_nine_charges_are_no_tensor(together):
    raw = np.load(DATA / "nine_atoms_q9.npz")
    dataset, record = check(
        together,
        "nine_atoms_q9.npz",
        R=raw["R"],
        Z=raw["Z"],
        grid=raw["esp_grid"],
        esp=raw["esp"],
        n_grid=real_points(raw["esp_grid"]),
        units=(BOHR, BOHR, 1.0),
    )
    assert_close(dataset.monopoles, raw["Q"].astype(float), 1e-6)
    assert_close(dataset.dipole, raw["D"] * BOHR, 2e-3)
    assert np.isnan(dataset.quadrupole).all()
    assert record.keys["Q"].semantics == "atomic_charges"


def test_six_heavy_and_ions(together):
    raw = np.load(DATA / "six_heavy_and_ions.npz")
    dataset, _ = check(
        together,
        "six_heavy_and_ions.npz",
        R=raw["R"],
        Z=raw["Z"],
        grid=raw["vdw_grid"],
        esp=raw["esp"],
        n_grid=real_points(raw["vdw_grid"]),
    )
    assert_close(dataset.total_charge, raw["charge"], 0)
    assert_close(dataset.dipole, raw["Dxyz"], 1e-6)
    assert_close(dataset.energy, raw["E"] / HARTREE_EV, 1e-6)
    assert_close(dataset.quadrupole[:, 0, 1], raw["Q"][:, 1] * DEBYE, 2e-3)
    assert_close(dataset.quadrupole[:, 2, 2], raw["Q"][:, 5] * DEBYE, 2e-3)


def test_ions_kcal(together):
    raw = np.load(DATA / "ions_kcal.npz")
    dataset, record = check(
        together,
        "ions_kcal.npz",
        R=raw["positions"],
        Z=raw["atomic_numbers"],
        grid=raw["vdw_surface"],
        esp=raw["esp"].astype(float),
        n_grid=raw["n_grid"],
        units=(1.0, 1.0, 1 / KCAL),
    )
    assert_close(dataset.total_charge, raw["charge"], 0)
    assert_close(dataset.dipole, raw["Dxyz"] * DEBYE, 2e-3)
    assert_close(dataset.quadrupole, raw["Q"] * BOHR**2, 2e-3)
    assert record.keys["esp"].unit == "kcal/mol/e"


@pytest.mark.parametrize(
    "name",
    [path.name for path in sorted(DATA.glob("*")) if path.suffix != ".md"],
)
def test_each_alone_means_the_same(together, tmp_path, name):
    report = ingest([DATA / name], tmp_path / "one.zarr")
    assert len(report.schema.sources) == 1
    alone = report.schema.sources[0]
    _, common = source(together, alone.files[0].name)
    assert alone.keys == common.keys
    nodes = read_nodes(tmp_path / "one.zarr")
    assert nodes["n_atoms"].shape == (alone.n_molecules,)


def test_two_files_by_name_are_one_source(together, tmp_path):
    parts = [DATA / "split_by_role" / f"{n}.npz" for n in ("grids_esp", "energies_forces_dipoles")]
    report = ingest(["+".join(map(str, parts))], tmp_path / "one.zarr")
    _, common = source(together, "grids_esp.npz")
    assert report.schema.sources[0].keys == common.keys
