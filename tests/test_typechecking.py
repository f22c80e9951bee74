"""Annotations are checked while tests run: shapes too, and in each test anew."""

import numpy as np
import pytest
from jaxtyping import TypeCheckError

from pipeline.chemistry.radii import radius_of
from pipeline.loader.pairs import count_pairs


@pytest.mark.parametrize("again", [False, True])
def test_a_call_that_is_not_as_annotated_is_an_error(again):
    flat = np.zeros(3, np.float32)
    with pytest.raises(TypeCheckError):
        count_pairs(flat, np.ones(3, bool), 4.0)
    for _ in range(20):  # of which the first are checked
        radius_of(np.ones(4), np.array([again + 1]))
