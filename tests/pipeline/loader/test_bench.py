"""The measurement of speed: it measures the loader's own work, and adds up."""

import numpy as np
import pytest

from pipeline.loader import make_loader
from pipeline.loader.bench import bare_gather, load_molecules, measure
from store_schema.problems import StoreError
from tests.stores import random_columns, write_store


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    rng = np.random.default_rng(4)
    columns = random_columns(rng, rng.integers(1, 9, 100), rng.integers(1, 60, 100), missing=0)
    return write_store(tmp_path_factory.mktemp("stores") / "s.zarr", columns)


def test_the_bare_gather_pads_the_same_batches(store):
    loader = make_loader(store, split="all", batch_size=8)
    buffer = load_molecules(store, np.arange(100), loader.plan.shapes)
    for batch in loader:
        slots = batch.molecule_index[batch.molecule_mask]
        for name, array in bare_gather(buffer, slots, batch.shape).items():
            np.testing.assert_array_equal(array, getattr(batch, name)[: len(slots)], err_msg=name)


def test_a_report_adds_up(store):
    report = measure(store, batch_size=8, seconds=0.2)
    loader = make_loader(store, split="all", batch_size=8)
    assert report.n_molecules == 100
    assert report.shapes == loader.plan.shapes
    assert report.padding_waste == loader.padding_waste
    per_molecule = 1e6 * report.megabytes_per_second / report.molecules_per_second
    sizes = [(sum(array.nbytes for array in batch), batch.molecule_mask.sum()) for batch in loader]
    expected = [size / n for size, n in sizes]
    assert min(expected) <= per_molecule <= max(expected)
    ratio = report.molecules_per_second / report.in_memory_molecules_per_second
    assert report.share_of_in_memory == pytest.approx(ratio)


def test_there_must_be_something_to_measure(tmp_path):
    with pytest.raises(StoreError):
        measure(tmp_path / "none.zarr")
