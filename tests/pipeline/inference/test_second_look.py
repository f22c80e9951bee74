"""Stores whose units or signs are wrong are found again."""

from __future__ import annotations

import numpy as np
import pytest
import zarr

from pipeline import ingest
from pipeline.inspection.validate import validate_store
from pipeline.sample import sample_sources
from tests.pipeline.ingestion.test_ingest import classic, save

ROLES = sample_sources()[2]
# A variable, and the factor that it is wrong by.
FAULTS = {
    "esp": 627.509474 / 2625.49964,
    "monopoles": -1.0,
    "dipole": 1 / 0.2081943,
    "vdw_surface": 1 / 0.529177,
}


def multiplied(store, name, factor):
    array = zarr.open_array(store / name, mode="r+")
    array[...] = array[...] * factor


@pytest.mark.parametrize("name", FAULTS)
def test_a_wrong_factor_or_sign_is_named_with_what_mends_it(tmp_path, name):
    source = save(tmp_path / "a.npz", classic(40))
    ingest([source], tmp_path / "a.zarr")
    assert not validate_store(tmp_path / "a.zarr").problems
    multiplied(tmp_path / "a.zarr", name, FAULTS[name])
    text = " ".join(map(str, validate_store(tmp_path / "a.zarr").problems))
    assert name in text or "ESP" in text or "atoms" in text


@pytest.mark.parametrize("factor", [-1.0, 23.06])
def test_forces_that_are_no_slopes_are_found(tmp_path, factor):
    ingest([ROLES], tmp_path / "a.zarr")
    multiplied(tmp_path / "a.zarr", "forces", factor)
    (problem,) = validate_store(tmp_path / "a.zarr").problems
    assert "forces" in problem.place
    assert "--declare unit.F=UNIT" in problem.remedy


def test_a_unit_that_the_source_said_is_remembered(tmp_path):
    columns = classic(20)
    relative = np.random.default_rng(0).normal(scale=5, size=len(columns["Z"]))
    columns |= {"E": relative, "e_unit": np.array("kcal/mol")}
    source = save(tmp_path / "a.npz", columns)
    report = ingest([source], tmp_path / "a.zarr")
    assert report.schema.sources[0].keys["E"].unit == "kcal/mol"
    assert not validate_store(tmp_path / "a.zarr").problems
