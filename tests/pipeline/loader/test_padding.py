"""Rows taken and padded, beside numpy's indexing."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from pipeline.loader.padding import mask_rows, take_points, take_rows

N, W = 6, 9
SLOTS = arrays.arrays(np.int64, 4, elements=st.integers(0, N - 1))
LENGTHS = arrays.arrays(np.int32, 4, elements=st.integers(0, W))


def field(*rest, dtype=np.float32):
    return np.random.default_rng(1).normal(size=(N, W, *rest), scale=50).astype(dtype)


@settings(max_examples=30)
@given(SLOTS, LENGTHS, st.sampled_from([(), (3,), (3, 3)]), st.sampled_from(["f4", "i4"]))
def test_rows_are_copied_and_zero_behind_their_lengths(slots, lengths, rest, dtype):
    rows = field(*rest, dtype=dtype)
    taken = take_rows(rows, slots, lengths, W)
    for row, slot, length in zip(taken, slots, lengths, strict=True):
        np.testing.assert_array_equal(row[:length], rows[slot, :length])
        assert not row[length:].any()
    assert taken.dtype == rows.dtype


def test_missing_values_behind_a_row_do_not_come_along():
    rows = np.full((1, 5), np.nan, np.float32)
    rows[0, :2] = 1, 2
    taken = take_rows(rows, np.zeros(2, np.int64), np.array([2, 0], np.int32), 4)
    assert taken.tolist() == [[1, 2, 0, 0], [0, 0, 0, 0]]


@settings(max_examples=30)
@given(
    SLOTS,
    arrays.arrays(np.int64, (4, 5), elements=st.integers(-1, W - 1)),
    st.sampled_from([(), (3,)]),
)
def test_points_are_copied_and_negative_ones_zero(slots, points, rest):
    rows = field(*rest)
    taken = take_points(rows, slots, points)
    expected = rows[slots[:, None], points]
    expected[points < 0] = 0
    np.testing.assert_array_equal(taken, expected)


@given(LENGTHS)
def test_masks_are_true_up_to_a_length(lengths):
    np.testing.assert_array_equal(mask_rows(lengths, W), np.arange(W) < lengths[:, None])
