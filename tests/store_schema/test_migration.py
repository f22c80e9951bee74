"""Schemas of earlier releases become the present one, a version at a time."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest

from store_schema.dataset import SCHEMA_VERSION, StoreSchema
from store_schema.migration import STEPS, migrated
from store_schema.names import SCHEMA_ATTRIBUTE
from store_schema.problems import StoreError

DATA = Path(__file__).parents[1] / "data"


def frozen(version):
    attributes = json.loads((DATA / f"store_v{version}" / "zarr.json").read_text())["attributes"]
    return attributes[SCHEMA_ATTRIBUTE]


def renamed(document):
    return {("made_by" if k == "created_by" else k): v for k, v in document.items()}


def counted(document):
    return {**document, "n_sources": len(document["sources"])}


@pytest.mark.parametrize("version", range(1, SCHEMA_VERSION + 1))
def test_a_store_of_every_version_is_kept_and_opens(version):
    schema = StoreSchema.from_attributes({SCHEMA_ATTRIBUTE: frozen(version)}, "store")
    assert schema.version == SCHEMA_VERSION
    assert set(STEPS) == set(range(1, SCHEMA_VERSION))


def test_steps_follow_each_other_and_leave_the_document_alone():
    document = frozen(1)
    before = copy.deepcopy(document)
    new = migrated(document, 3, {1: renamed, 2: counted})
    assert document == before
    assert (new["version"], new["n_sources"]) == (3, 2)
    assert new["made_by"] == before["created_by"]
    assert "created_by" not in new
    assert migrated(document, 1, {1: renamed}) == before


def test_an_older_schema_is_read_as_the_present_one(monkeypatch):
    old = {("made_by" if k == "created_by" else k): v for k, v in frozen(1).items()}
    old["version"] = 0
    monkeypatch.setitem(
        STEPS,
        0,
        lambda document: {("created_by" if k == "made_by" else k): v for k, v in document.items()},
    )
    schema = StoreSchema.from_attributes({SCHEMA_ATTRIBUTE: old}, "store")
    assert schema == StoreSchema.from_attributes({SCHEMA_ATTRIBUTE: frozen(1)}, "store")


@pytest.mark.parametrize("version", [0, SCHEMA_VERSION + 1, "one", None])
def test_a_version_without_a_way_is_refused(version):
    with pytest.raises(StoreError, match="version"):
        StoreSchema.from_attributes({SCHEMA_ATTRIBUTE: frozen(1) | {"version": version}}, "store")
