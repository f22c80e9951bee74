"""Random conventions of real molecules: settled and right, or asked, and never wrong."""

from __future__ import annotations

import pytest

from tests.pipeline.inference.convention_table import REFERENCE, molecules, outcomes, table

CONVENTIONS, SHORT = 600, 10
# Settled without a question, of those that show what they are.
LEAST = 0.98


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    return molecules(tmp_path_factory.mktemp("records"))


def test_no_convention_is_silently_wrong(records, tmp_path):
    found = list(outcomes(records, tmp_path, range(SHORT)))
    assert not [outcome for outcome in found if outcome.result == "wrong"]
    if REFERENCE.exists():  # of the few molecules of the sample more is asked
        assert sum(outcome.result == "asked" for outcome in found if outcome.shown) <= 1


@pytest.mark.slow
@pytest.mark.skipif(not REFERENCE.exists(), reason="the reference data is not here")
def test_nearly_all_conventions_are_settled(records, tmp_path):
    found = list(outcomes(records, tmp_path, range(CONVENTIONS)))
    assert not [outcome for outcome in found if outcome.result == "wrong"]
    shown = [outcome for outcome in found if outcome.shown]
    settled = sum(outcome.result == "settled" for outcome in shown)
    assert settled >= LEAST * len(shown), table(found)
