"""The schema of a store: there and back through JSON, and nothing unknown let in."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from store_schema import KeyRecord, SourceFile, SourceRecord, StoreSchema
from store_schema.names import SCHEMA_ATTRIBUTE, VARIABLES
from store_schema.problems import StoreError
from store_schema.semantics import SEMANTICS
from store_schema.units import FACTORS

texts = st.text(max_size=12)
counts = st.integers(0, 10**9)
origins = st.sampled_from(["alias", "shape", "physics", "default", "declared", "forced"])


@st.composite
def key_records(draw):
    semantics = draw(st.sampled_from(sorted(SEMANTICS)))
    units = sorted(FACTORS[SEMANTICS[semantics].quantity])
    return KeyRecord(
        semantics=semantics,
        stored_as=SEMANTICS[semantics].stored_as,
        unit=draw(st.sampled_from(units)),
        shape=tuple(draw(st.lists(counts, max_size=3))),
        dtype=draw(st.sampled_from(["float64", "<U4"])),
        semantics_from=draw(origins),
        unit_from=draw(origins),
        confidence=draw(st.floats(0, 1)),
        evidence=tuple(draw(st.lists(texts, max_size=2))),
        n_present=draw(counts),
    )


files = st.builds(
    SourceFile,
    name=texts,
    size=counts,
    sha256=st.text("0123456789abcdef", min_size=64, max_size=64),
)
sources = st.builds(
    SourceRecord,
    convention=texts,
    files=st.lists(files, max_size=2).map(tuple),
    n_molecules=counts,
    n_quarantined=counts,
    declared=st.dictionaries(texts, texts, max_size=2),
    keys=st.dictionaries(texts, key_records(), max_size=3),
    metadata=st.dictionaries(texts, texts, max_size=2),
)


@st.composite
def schemas(draw):
    found = draw(st.lists(sources, max_size=3))
    return StoreSchema(
        n_molecules=sum(source.n_molecules for source in found),
        max_atoms=draw(counts),
        max_grid=draw(counts),
        variables=tuple(draw(st.lists(st.sampled_from(sorted(VARIABLES)), unique=True))),
        units={"esp": "hartree/e"},
        sources=tuple(found),
        created_by="dcm-store 0.1.0",
    )


@pytest.fixture
def fields():
    schema = StoreSchema(
        n_molecules=0,
        max_atoms=3,
        max_grid=5,
        variables=("positions",),
        units={},
        sources=(),
        created_by="dcm-store",
    )
    return schema.to_attributes()[SCHEMA_ATTRIBUTE]


@given(schema=schemas())
def test_json_there_and_back(schema):
    attributes = json.loads(json.dumps(schema.to_attributes()))
    assert StoreSchema.from_attributes(attributes, "a.zarr") == schema


def test_schemas_do_not_change(fields):
    with pytest.raises(ValidationError, match="frozen"):
        StoreSchema(**fields).n_molecules = 4


def refused(found):
    with pytest.raises(StoreError) as caught:
        StoreSchema.from_attributes({SCHEMA_ATTRIBUTE: found}, "a.zarr")
    assert all("a.zarr" in problem.place for problem in caught.value.problems)
    return caught.value.problems


def test_all_problems_come_at_once(fields):
    """Unknown fields among them: they may be of a later version, and mean something."""
    wrong = {**fields, "max_atoms": -1, "max_grid": "many", "colour": "blue"}
    del wrong["created_by"]
    places = " ".join(problem.place for problem in refused(wrong))
    assert all(name in places for name in ("max_atoms", "max_grid", "colour", "created_by"))


def test_unknown_fields_deep_inside_are_refused(fields):
    source = {"convention": "x", "files": [], "n_molecules": 0, "keys": {}, "extra": 1}
    assert "extra" in refused({**fields, "sources": [source]})[0].place


@pytest.mark.parametrize("version", [0, 3, "1", None])
def test_another_version_is_refused_as_such(fields, version):
    (problem,) = refused({**fields, "version": version})
    assert "version" in problem.wrong


def test_another_store_is_refused_as_such():
    (problem,) = refused(None)
    assert "ingest" in problem.remedy


def test_counts_must_agree(fields):
    (problem,) = refused({**fields, "n_molecules": 7})
    assert "7" in problem.wrong


@pytest.mark.parametrize(
    "wrong",
    [
        {"semantics": "dipole_of_sorts"},
        {"unit": "debye"},
        {"confidence": 1.5},
        {"semantics_from": "guess"},
        {"colour": "blue"},
    ],
    ids=lambda wrong: next(iter(wrong)),
)
def test_a_wrong_record_of_a_key_is_refused(wrong):
    right = {"semantics": "esp", "stored_as": "esp", "unit": "hartree/e", "semantics_from": "alias"}
    KeyRecord(**right)
    with pytest.raises(ValidationError):
        KeyRecord(**{**right, **wrong})
