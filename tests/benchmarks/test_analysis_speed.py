"""How fast an analysis is, beside the forward pass of the training step."""

from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np
import pytest

from tests.benchmarks.analysis_speed import analysis_times

pytestmark = pytest.mark.benchmark

AT_LEAST = 0.5


@pytest.mark.parametrize("n_dcm", [2, 4])
def test_an_analysis_beside_the_forward_pass(n_dcm):
    # In a process of its own, where neither annotations nor NaN are looked at.
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        forward, analysis = pool.submit(analysis_times, n_dcm).result()
    ratio = float(np.median(np.array(forward) / np.array(analysis)))
    print(
        f"\nanalysis of {n_dcm} charges per atom: forward passes {min(forward):.2f} s, "
        f"analysis {min(analysis):.2f} s, ratio {ratio:.2f} (median of {len(forward)})"
    )
    assert ratio >= AT_LEAST
