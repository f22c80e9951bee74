"""An analysis takes no more memory for a larger store: neither molecules nor results are held."""

from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import pytest

from pipeline import open_store
from tests.benchmarks.analysis_memory import analysis_peak, tiled

pytestmark = pytest.mark.benchmark

FEW, MANY = 80, 320  # copies of the sample; the heap stops growing at about 20,000 molecules


def measured(function, *arguments):
    """Calls a function in a process of its own, whose peak is nobody else's."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def test_the_peak_grows_by_less_than_the_results(trained, sample_store, tmp_path):
    peaks, molecules = [], []
    for copies in (FEW, MANY):
        store = tmp_path / f"{copies}.zarr"
        measured(tiled, sample_store, store, copies)
        peaks.append(measured(analysis_peak, trained[2], store))
        with open_store(store) as tree:
            results = tree["results/peak"].to_dataset()
            molecules.append(results.sizes["molecule"])
    added = molecules[1] - molecules[0]
    one_of_them = results.nbytes / molecules[1]
    grown = (peaks[1] - peaks[0]) * 1e6 / added
    print(
        f"\npeak memory of an analysis: {peaks[0]:,.0f} MB of {molecules[0]:,} molecules, "
        f"{peaks[1]:,.0f} MB of {molecules[1]:,}; {grown:,.0f} bytes per molecule more, "
        f"whose results are {one_of_them:,.0f}"
    )
    assert grown < one_of_them
