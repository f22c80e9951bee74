"""The ladder of references in an analysis, against float64 sums and closed forms."""

import numpy as np
import pytest
import xarray as xr

from dcmnet.analysis import analyze
from dcmnet.analysis.figures.ladder import rungs_of
from dcmnet.analysis.ladder import LADDER_COLUMNS, ladder_rows, multipole_errors
from dcmnet.analysis.summary import molecule_table
from dcmnet.report.reference_charts import ladder_panel
from pipeline import open_store
from pipeline.chemistry.multipoles import multipole_potential
from store_schema.units import BOHR_IN_ANGSTROM, HARTREE_IN_KCAL_PER_MOL
from tests.experiments import copy

BOHR = BOHR_IN_ANGSTROM


@pytest.fixture(scope="module")
def table(small_store, tmp_path_factory):
    store = copy(small_store, tmp_path_factory.mktemp("ladder") / "a.zarr")
    analyze("dcm1", store=store, split="all", ladder=6)
    return molecule_table(open_store(store), "dcm1")


def test_the_ladder_falls_for_every_molecule_of_the_sample(sample_store):
    molecules = open_store(sample_store).to_dataset()
    found = multipole_errors(molecules, np.arange(molecules.sizes["molecule"]))
    dipoles, quadrupoles = (found[name] for name in LADDER_COLUMNS[:2])
    known = np.isfinite(dipoles)
    assert known.sum() > 150
    assert (quadrupoles < dipoles)[known].all()


def test_it_starts_where_fitted_charges_end(table):
    some = table.dropna(subset=["esp_rmse_fitted_dipoles"])
    assert len(some) == 6
    assert (some["esp_rmse_fitted_dipoles"] < some["esp_rmse_fitted"]).all()
    assert (some["esp_rmse_fitted_quadrupoles"] < some["esp_rmse_fitted_dipoles"]).all()


def test_a_sample_is_spread_evenly():
    rows = np.arange(3, 1003)
    some = ladder_rows(rows, 5)
    assert some.tolist() == [3, 253, 503, 752, 1002]
    assert ladder_rows(rows[:4], 5).tolist() == rows[:4].tolist()
    assert not ladder_rows(rows, 0).size


def test_stored_dipoles_that_made_the_esp_leave_nothing_of_it():
    rng = np.random.default_rng(5)
    positions, charges = rng.uniform(-1, 1, (4, 3)), rng.normal(size=4)
    dipoles = rng.normal(size=(4, 3)) * 0.2  # e Å
    direction = rng.normal(size=(300, 3))
    grid = 5 * direction / np.linalg.norm(direction, axis=1, keepdims=True)
    esp = multipole_potential(grid / BOHR, positions / BOHR, charges, dipoles / BOHR)
    dims = ("molecule",)
    molecules = xr.Dataset(
        {
            "n_atoms": (dims, [4]),
            "n_grid": (dims, [300]),
            "total_charge": (dims, [charges.sum()]),
            "positions": ((*dims, "atom", "xyz"), positions[None]),
            "monopoles": ((*dims, "atom"), charges[None]),
            "atomic_dipoles": ((*dims, "atom", "xyz"), dipoles[None]),
            "vdw_surface": ((*dims, "grid_point", "xyz"), grid[None]),
            "esp": ((*dims, "grid_point"), esp[None]),
        }
    )
    found = multipole_errors(molecules, np.array([0]))
    assert found["esp_rmse_stored_multipoles"][0] < 1e-9 * HARTREE_IN_KCAL_PER_MOL
    assert found["esp_rmse_fitted_dipoles"][0] < 1e-9 * HARTREE_IN_KCAL_PER_MOL
    without = multipole_errors(molecules.drop_vars("atomic_dipoles"), np.array([0]))
    assert np.isnan(without["esp_rmse_stored_multipoles"][0])


def test_rungs_are_compared_over_the_same_molecules(table):
    common, rungs = rungs_of(table, 1)
    assert len(common) == 6
    assert [rung.column for rung in rungs] == [
        "esp_rmse_monopoles",
        "esp_rmse_fitted",
        "esp_rmse_fitted_dipoles",
        "esp_rmse_fitted_quadrupoles",
        "esp_rmse",
    ]


def test_without_a_ladder_nothing_is_made_up(small_store, tmp_path):
    store = copy(small_store, tmp_path / "a.zarr")
    found = analyze("dcm1", store=store, split="all", ladder=0)
    assert found.statistics.molecules["all"]["all"]["esp_rmse_fitted_dipoles"].count == 0
    _, rungs = rungs_of(molecule_table(open_store(store), "dcm1"), 1)
    assert "esp_rmse_fitted_dipoles" not in {rung.column for rung in rungs}


def test_a_level_that_no_molecule_shares_is_left_out(table):
    """Such as monopoles of other molecules than multipoles were fitted to."""
    apart = table.copy()
    apart.loc[apart["esp_rmse_fitted_dipoles"].notna(), "esp_rmse_monopoles"] = np.nan
    common, rungs = rungs_of(apart, 1)
    assert len(common) == 6
    assert "esp_rmse_monopoles" not in {rung.column for rung in rungs}
    assert ladder_panel(apart, 1).alt.count(";") == len(rungs) - 1
