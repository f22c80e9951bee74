"""What the axes of all figures have in common."""

import matplotlib.pyplot as plt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dcmnet.analysis.figures.style import label_plainly


@pytest.fixture(scope="module")
def ax():
    figure, ax = plt.subplots()
    yield ax
    plt.close(figure)


@settings(max_examples=60)
@given(low=st.floats(1e-6, 1e4), ratio=st.floats(1.01, 1e5))
def test_a_logarithmic_axis_has_two_labels_at_least(ax, low, ratio):
    ax.set_yscale("log")
    ax.set_ylim(low, low * ratio)
    label_plainly(ax.yaxis)
    shown = [tick for tick in ax.get_yticks() if low <= tick <= low * ratio]
    labels = ax.yaxis.get_major_formatter().format_ticks(shown)
    assert len(set(labels)) == len(shown)
    assert 2 <= len(shown) <= 12
