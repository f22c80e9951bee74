"""Random conventions of real molecules: settled and right, or asked, and never wrong."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline import ingest, open_store
from pipeline.sample import sample_sources
from store_schema.problems import AmbiguityError
from tests.pipeline.conventions import Writer, mistakes

CONVENTIONS = 60
PARTS = 6


@pytest.fixture(scope="module")
def molecules(tmp_path_factory):
    store = tmp_path_factory.mktemp("sample") / "sample.zarr"
    ingest(sample_sources(), store)
    return open_store(store).to_dataset().load()


@pytest.mark.parametrize("part", range(PARTS))
def test_no_convention_is_silently_wrong(molecules, tmp_path, part):
    asked = []
    for seed in range(part, CONVENTIONS, PARTS):
        folder = tmp_path / str(seed)
        folder.mkdir()
        written = Writer(molecules, np.random.default_rng(seed)).write(folder)
        try:
            ingest([written.source], tmp_path / f"{seed}.zarr")
        except AmbiguityError as question:
            asked.append(str(question))
        else:
            stored = open_store(tmp_path / f"{seed}.zarr").to_dataset()
            assert not mistakes(written, stored), (seed, written.kind)
    assert len(asked) <= 1
    assert all("--declare" in question for question in asked)
