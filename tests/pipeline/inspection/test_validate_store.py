"""A store is checked again: whole, or with every problem listed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import zarr

from pipeline.inspection.validate import validate_store

FROZEN = Path(__file__).parents[2] / "data" / "store_v1"


@pytest.fixture
def store(sample_store, tmp_path):
    return Path(shutil.copytree(sample_store, tmp_path / "a.zarr"))


def problems(store):
    return " | ".join(str(problem) for problem in validate_store(store).problems)


def change(store, name, index, value):
    array = zarr.open_array(store / name, mode="r+")
    array[index] = value


def test_what_ingest_wrote_is_sound(sample_store):
    for store in (sample_store, FROZEN):
        validation = validate_store(store)
        assert validation.problems == ()
        assert validation.n_molecules > 0


def test_every_problem_is_listed(store):
    change(store, "positions", (0, 1, 0), np.nan)
    change(store, "monopoles", (1, 0), 3.0)
    change(store, "n_atoms", 2, 1)
    change(store, "dipole", (3, slice(None)), 9.0)
    change(store, "positions", (4, -1, 0), 1.0)
    validation = validate_store(store)
    assert validation.n_faulty == 5
    text = problems(store)
    for reason in ("no position", "monopoles sum to", "number of atoms", "ESP gives", "beyond"):
        assert reason in text


def test_a_lost_file_is_found(store):
    for shard in (store / "dipole" / "c").rglob("*"):
        if shard.is_file():
            shard.unlink()
    assert "0 molecules have it" in problems(store)


def test_a_damaged_chunk_is_found(store):
    shard = next(path for path in sorted((store / "esp" / "c").rglob("*")) if path.is_file())
    raw = bytearray(shard.read_bytes())
    raw[-8:] = bytes(8)  # the index of the shard has a checksum
    shard.write_bytes(raw)
    assert "cannot be read" in problems(store)


def test_schema_and_arrays_must_agree(store):
    document = json.loads((store / "zarr.json").read_text())
    document["attributes"]["dcmnet_schema"]["n_quarantined"] = 5
    document["attributes"]["dcmnet_schema"]["max_atoms"] = 7
    document["attributes"]["dcmnet_schema"]["units"]["esp"] = "eV/e"
    document["attributes"]["dcmnet_schema"]["variables"].append("spin")
    (store / "zarr.json").write_text(json.dumps(document))
    text = problems(store)
    for part in ("quarantine", "not 7", "in the schema eV/e", "spin"):
        assert part in text
