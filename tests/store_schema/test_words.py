"""Numbers and what they count."""

import pytest

from store_schema.words import counted


@pytest.mark.parametrize(
    ("n", "expected"), [(0, "0 molecules are"), (1, "1 molecule is"), (1649, "1,649 molecules are")]
)
def test_nouns_and_verbs_follow_the_number(n, expected):
    assert counted(n, "molecule", "is are") == expected
    assert counted(n, "molecule") == expected.rsplit(" ", 1)[0]
