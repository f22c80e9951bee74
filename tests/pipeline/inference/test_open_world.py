"""Files from a world wider than the tables: right, or a question, and never wrong."""

from __future__ import annotations

import pytest

from tests.pipeline.inference.convention_table import REFERENCE, molecules
from tests.pipeline.inference.open_world import reliability, results, table

CASES, SHORT = 2000, 12
# Settled without a question, of what a file tells.
LEAST = 0.6


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    return molecules(tmp_path_factory.mktemp("records"))


def test_no_file_is_read_wrong(records, tmp_path):
    found = list(results(records, tmp_path, range(SHORT)))
    assert not [each for each in found if each.outcome in ("wrong", "misled")]


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.skipif(not REFERENCE.exists(), reason="the reference data is not here")
def test_what_a_file_tells_is_mostly_settled(records, tmp_path):
    found = list(results(records, tmp_path, range(CASES)))
    print(table(found), reliability(found), sep="\n\n")
    assert not [each for each in found if each.outcome in ("wrong", "misled")]
    outside = [each for each in found if each.decidable and not each.inside]
    assert sum(each.outcome == "right" for each in outside) >= LEAST * len(outside)
