"""What is drawn of groups: in the order one expects, every charge in some bar."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dcmnet.analysis.figures.groups import in_order, ridges
from dcmnet.analysis.statistics import Spread


@pytest.mark.parametrize(
    "expected",
    [
        ["H", "C", "N", "O", "F", "S", "Cl"],
        ["-2", "-1", "0", "+1", "unknown"],
        ["2-3", "4-5", "10-11", "100-101"],
        ["<1", "1-1.2", "1.2-1.4", "2.5-3", ">3"],
    ],
)
@given(st.randoms())
def test_labels_are_in_order_however_a_store_kept_them(expected, random):
    shuffled = expected.copy()
    random.shuffle(shuffled)
    assert in_order(shuffled) == expected


@given(
    st.dictionaries(
        st.sampled_from(["H", "C", "N", "all"]),
        st.tuples(st.integers(-300, 300), st.lists(st.integers(0, 9), min_size=1, max_size=200)),
        min_size=1,
    )
)
def test_every_charge_is_in_a_bar(given_counts):
    width = 0.02
    spreads = {
        name: Spread(
            count=sum(counts),
            **{"mean": 0.0, "std": 0.0, "min": 0.0, "max": 0.0},
            start=first * width,
            width=width,
            counts=tuple(counts),
        )
        for name, (first, counts) in given_counts.items()
    }
    found = ridges(spreads)
    assert set(found) == {name for name, s in spreads.items() if name != "all" and s.count}
    for name, (edges, heights) in found.items():
        spread = spreads[name]
        assert heights.max() == 1.0
        assert len(heights) == len(edges) - 1 <= 71
        centres = spread.start + width * (np.arange(len(spread.counts)) + 0.5)
        inside = [
            np.asarray(spread.counts)[(centres > low) & (centres < high)].sum()
            for low, high in itertools.pairwise(edges)
        ]
        assert sum(inside) == spread.count
        np.testing.assert_allclose(heights, np.asarray(inside) / max(inside))
