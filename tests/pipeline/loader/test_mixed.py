"""Batches of several stores: by the ratio, all molecules, and exactly resumable."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.loader import MixedDataset, make_loader
from store_schema.problems import CheckpointError
from tests.stores import random_columns, write_store

SIZES = (40, 13, 7)


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mixed")
    paths = []
    for index, size in enumerate(SIZES):
        path = folder / f"{index}.zarr"
        rng = np.random.default_rng(index)
        write_store(path, random_columns(rng, rng.integers(2, 9, size), rng.integers(5, 20, size)))
        paths.append(path)
    return paths


def mixed(stores, ratio, batch_size=4):
    loaders = [
        make_loader(path, batch_size=batch_size, split="all", num_epochs=None, seed=3)
        for path in stores
    ]
    return MixedDataset(loaders, ratio, SIZES[: len(stores)])


def rows(batch):
    return batch.molecule_index[batch.molecule_mask]


@settings(max_examples=25, deadline=None)
@given(ratio=st.lists(st.floats(0.1, 10), min_size=2, max_size=3))
def test_an_epoch_has_the_first_store_once_and_the_others_by_the_ratio(stores, ratio):
    dataset = mixed(stores[: len(ratio)], ratio)
    counts = np.bincount(dataset.order, minlength=len(ratio))
    assert counts[0] == 10
    np.testing.assert_allclose(counts[1:], 10 * np.array(ratio[1:]) / ratio[0], atol=0.5001 + 1)
    # Evenly: of each prefix, no store is more than a batch ahead of its share.
    for which, count in enumerate(counts):
        seen = np.cumsum(dataset.order == which)
        due = np.arange(1, len(dataset.order) + 1) * count / len(dataset.order)
        assert np.abs(seen - due).max() <= len(counts)


def test_molecules_of_each_store_come_equally_often(stores):
    """The small store goes round several times while the large one is passed once."""
    dataset = mixed(stores[:2], (1, 1))
    epochs = 2
    batches = itertools.islice(dataset, epochs * dataset.batches_per_epoch)
    seen = np.bincount(np.concatenate([rows(batch) for batch in batches]), minlength=53)
    assert (seen[:40] == epochs).all()
    assert seen[40:].max() - seen[40:].min() <= 1
    assert seen[40:].min() >= 4


def test_batches_are_those_of_the_stores_with_rows_counted_on(stores):
    first = next(iter(mixed(stores[:2], (1, 1000))))
    alone = next(iter(make_loader(stores[1], batch_size=4, split="all", seed=3)))
    np.testing.assert_array_equal(first.esp, alone.esp)
    np.testing.assert_array_equal(rows(first), rows(alone) + SIZES[0])


@pytest.mark.parametrize("taken", [0, 1, 7, 23])
def test_a_resumed_iterator_has_the_same_batches(stores, taken):
    dataset = mixed(stores, (3, 2, 1))
    whole = iter(dataset)
    for _ in range(taken):
        next(whole)
    resumed = iter(dataset)
    resumed.set_state(whole.get_state())
    for one, other in zip(itertools.islice(whole, 20), itertools.islice(resumed, 20), strict=True):
        for a, b in zip(one, other, strict=True):
            np.testing.assert_array_equal(a, b)


def test_a_state_of_other_stores_is_refused(stores):
    state = iter(mixed(stores[:2], (1, 1))).get_state()
    with pytest.raises(CheckpointError, match="3 stores"):
        iter(mixed(stores, (1, 1, 1))).set_state(state)
    with pytest.raises(CheckpointError, match="another run"):
        iter(mixed(stores[:2], (1, 1))).set_state({"epoch": 0, "step": 0})
