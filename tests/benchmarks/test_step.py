"""How long a training step takes a molecule, beside the plain way of training."""

from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np
import pytest

from tests.benchmarks.step_speed import step_times

pytestmark = pytest.mark.benchmark

FASTER = 40


def test_a_step_is_much_faster_than_the_plain_way():
    # In a process of its own, where neither annotations nor NaN are looked at.
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        ours, plain, losses = pool.submit(step_times).result()
    assert losses[0] == pytest.approx(losses[1], rel=1e-3), "both compute the same"
    median, plain_median = (1e3 * float(np.median(times)) for times in (ours, plain))
    ratio = plain_median / median
    print(
        "\ntraining step, ms a molecule (median of "
        f"{len(ours)}): batches of 16 trimmed {median:.2f}, "
        f"plain (60 atoms, all pairs, 3200 points, batch 1) {plain_median:.2f}, "
        f"ratio {ratio:.1f}"
    )
    assert ratio >= FASTER
