"""A store written by schema version 1 opens in every later release."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pipeline import open_store, read_schema

STORE = Path(__file__).parents[2] / "data" / "store_v1"


def test_the_schema_says_what_it_said():
    schema = read_schema(STORE)
    assert (schema.version, schema.n_molecules, schema.n_quarantined) == (1, 8, 1)
    classic, ions = schema.sources
    assert [source.convention for source in schema.sources] == ["padded", "padded"]
    assert (classic.n_molecules, classic.n_quarantined, ions.first_molecule) == (5, 1, 5)
    assert classic.keys["D"].semantics == "dipole_magnitude"
    assert classic.keys["Dxyz"].unit == "e*bohr"
    assert ions.keys["esp"].unit == "kcal/mol/e"
    assert schema.units["esp"] == "hartree/e"


def test_the_molecules_are_there():
    tree = open_store(STORE)
    assert tree.sizes["molecule"] == 8
    assert list(tree.molecule_id.to_numpy()[:2]) == ["CCC(=O)O/0", "C1CO1/0"]
    np.testing.assert_array_equal(tree.total_charge, [0, 0, 0, 0, 0, -1, 0, 1])
    np.testing.assert_array_equal(np.isfinite(tree.esp).sum("grid_point"), tree.n_grid)
    np.testing.assert_allclose(tree.monopoles.sum("atom"), tree.total_charge, atol=1e-3)
    assert abs(float(np.abs(tree.esp).max()) - 0.2) < 0.15


def test_quarantine_and_results_are_there():
    tree = open_store(STORE)
    assert "monopoles are all zero" in str(tree["quarantine/reason"].to_numpy()[0])
    np.testing.assert_array_equal(tree["results/baseline/esp_rmse"], np.arange(8))
