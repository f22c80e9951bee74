"""A store written by schema version 1 opens in every later release."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from dcmnet.analysis.ladder import multipole_errors
from pipeline import ingest, open_store, read_schema
from pipeline.inspection.validate import validate_store
from pipeline.sample import sample_sources
from store_schema.problems import StoreError
from tests.pipeline.inference.atomic_moments import with_moments

STORE = Path(__file__).parents[2] / "data" / "store_v1"


def test_the_schema_says_what_it_said():
    schema = read_schema(STORE)
    assert (schema.version, schema.n_molecules, schema.n_quarantined) == (2, 8, 1)
    classic, ions = schema.sources
    assert [source.convention for source in schema.sources] == ["padded", "padded"]
    assert (classic.n_molecules, classic.n_quarantined, ions.first_molecule) == (5, 1, 5)
    assert classic.keys["D"].semantics == "dipole_magnitude"
    assert classic.keys["Dxyz"].unit == "e*bohr"
    assert ions.keys["esp"].unit == "kcal/mol/e"
    assert schema.units["esp"] == "hartree/e"


def test_what_version_1_kept_under_a_name_of_version_2_is_not_taken_for_it(tmp_path, monkeypatch):
    with np.load(sample_sources()[0]) as raw:
        columns = with_moments({key: raw[key][:6] for key in raw.files}, np.random.default_rng(0))
    store, before, after = (tmp_path / name for name in ("a.zarr", "a.npz", "b.npz"))
    np.savez(before, **columns)
    with monkeypatch.context() as patched:  # version 1 did not know the name
        patched.setattr("pipeline.inference.kept._NOT_NAMES", set())
        kept = {"atomic_quadrupoles": "unknown", "atomic_octupoles": "unknown"}
        ingest([before], store, declare=kept)
    root = json.loads((store / "zarr.json").read_text())
    root["attributes"]["dcmnet_schema"]["version"] = 1
    (store / "zarr.json").write_text(json.dumps(root))
    assert read_schema(store).version == 2
    molecules = open_store(store).to_dataset()
    ours = multipole_errors(molecules, np.arange(6))["esp_rmse_stored_multipoles"]
    only = molecules.drop_vars(["atomic_quadrupoles", "atomic_octupoles"])
    theirs = multipole_errors(only, np.arange(6))["esp_rmse_stored_multipoles"]
    np.testing.assert_array_equal(ours, theirs)
    np.savez(after, **columns | {"R": columns["R"] + 1e-4})
    with pytest.raises(StoreError, match="as it came"):
        ingest([after], store, append=True)
    assert read_schema(store).n_molecules == 6


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


def test_version_2_has_the_moments_of_atoms_and_says_which_esps_are_theirs():
    store = STORE.with_name("store_v2")
    assert read_schema(store).sources[0].keys["ESP of multipoles"].semantics_from == "derived"
    assert not validate_store(store).problems
    molecules = open_store(store).to_dataset().load()
    derived = molecules.esp_origin.to_numpy() != ""
    assert derived.tolist() == [False, True] * 6
    errors = multipole_errors(molecules, np.arange(12))
    assert errors["esp_rmse_stored_multipoles"].max() < 2e-3  # float32
    assert errors["esp_rmse_fitted_dipoles"].min() > 0.1
