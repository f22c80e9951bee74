"""How long a training step takes per molecule, compared with the plain way of training."""

from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np
import pytest

from tests.benchmarks.published_training import FOLDER
from tests.benchmarks.step_speed import published_times, run_times, step_times

pytestmark = pytest.mark.benchmark

FASTER = 40
FASTER_IN_A_RUN = 60
FASTER_THAN_PUBLISHED = 100


def test_a_step_is_much_faster_than_the_plain_way():
    # In a process of its own, where neither annotations nor NaN are looked at.
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        ours, plain, losses = pool.submit(step_times).result()
    assert losses[0] == pytest.approx(losses[1], rel=1e-3), "both compute the same"
    median, plain_median = (1e3 * float(np.median(times)) for times in (ours, plain))
    ratio = plain_median / median
    print(
        "\ntraining step, ms per molecule (median of "
        f"{len(ours)}): batches of 16 trimmed {median:.2f}, "
        f"plain (60 atoms, all pairs, 3200 points, batch 1) {plain_median:.2f}, "
        f"ratio {ratio:.1f}"
    )
    assert ratio >= FASTER


@pytest.mark.skipif(FOLDER is None, reason="DCMNET_PUBLISHED names no published implementation")
def test_a_step_is_a_hundred_times_as_fast_as_published(tmp_path):
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        found = pool.submit(published_times, str(tmp_path)).result()
    ours, published = (1e3 * float(np.median(times)) for times in found)
    print(
        f"\ntraining step, 15 to 17 atoms, ms per molecule (median of {len(found[0])}): "
        f"{ours:.2f}, published {published:.2f}, ratio {published / ours:.1f}"
    )
    assert published / ours >= FASTER_THAN_PUBLISHED


def test_a_run_on_few_molecules_is_nearly_as_fast_as_its_steps(tmp_path):
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        found = pool.submit(run_times, str(tmp_path)).result()
    counted, by_the_clock, plain = (1e3 * float(np.median(times)) for times in found)
    ratio = plain / counted
    print(
        f"\nrun_training on 126 molecules, ms per molecule: {counted:.2f} as it counts, "
        f"{by_the_clock:.2f} by the clock with validation and saving, "
        f"plain {plain:.2f}, ratio {ratio:.1f}"
    )
    assert ratio >= FASTER_IN_A_RUN
