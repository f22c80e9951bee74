"""Processes that share every batch: together they have those of one, whatever their number."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.loader import Part, make_loader
from pipeline.loader import reader as source
from store_schema.problems import ConfigError
from tests.stores import random_columns, write_store

N = 151
MEMORY = 2 * 40 * 16 * 1100  # two windows of about 40 molecules
PAIRS = ("pair_dst", "pair_src", "pair_mask")


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    rng = np.random.default_rng(5)
    columns = random_columns(rng, rng.integers(1, 12, N), rng.integers(1, 200, N))
    ids = [str(i) for i in range(N)]
    return write_store(tmp_path_factory.mktemp("stores") / "s.zarr", columns, ids)


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(source, "BLOCK_MOLECULES", 32)
    monkeypatch.setattr("pipeline.loader.make.BLOCK_MOLECULES", 32)


def loader_of(store, **options):
    defaults = {"batch_size": 12, "split": "all", "memory_bytes": MEMORY, "prefetch": 0}
    return make_loader(store, **{**defaults, **options})


@settings(max_examples=25)
@given(
    count=st.sampled_from([2, 3, 4]),
    devices=st.sampled_from([1, 2]),
    batch_size=st.sampled_from([11, 24, 48, 151]),
    memory=st.sampled_from([1, MEMORY, 10**9]),
    options=st.sampled_from([{}, {"grid_points": 20, "rotate": True}, {"shuffle": False}]),
)
def test_parts_together_are_the_batches_of_one_process(
    store, *, count, devices, batch_size, memory, options
):
    options = {**options, "batch_size": batch_size, "memory_bytes": memory, "num_epochs": 2}
    whole = list(loader_of(store, **options))
    parts = [
        list(loader_of(store, part=Part(index, count, devices), **options))
        for index in range(count)
    ]
    for expected, *together in zip(whole, *parts, strict=True):
        assert len({part.shape for part in together}) == 1
        for name in set(expected._fields) - set(PAIRS):
            joined = np.concatenate([getattr(part, name) for part in together])
            here, B = getattr(expected, name), expected.shape.molecules
            np.testing.assert_array_equal(joined[:B], here, err_msg=name)
            # Where devices do not divide a batch, empty molecules stand behind.
            assert not (joined[B:] > 0).any()
            assert len(joined) - B < count * devices
        atoms = together[0].atomic_numbers.size
        assert_same_pairs(expected, together, atoms)
        for part in together:  # each device has room for its own
            on_device = np.bincount(part.pair_dst[part.pair_mask] // (atoms // devices))
            assert on_device.max(initial=0) <= len(part.pair_dst) // devices


def assert_same_pairs(expected, together, atoms):
    found = [
        np.stack([part.pair_dst, part.pair_src])[:, part.pair_mask] + i * atoms
        for i, part in enumerate(together)
    ]
    pairs = np.stack([expected.pair_dst, expected.pair_src])[:, expected.pair_mask]
    np.testing.assert_array_equal(np.concatenate(found, axis=1), pairs)


def test_another_number_of_processes_goes_on_inside_an_epoch(store):
    """Each molecule once: some batches by two processes, then by one, then by three."""
    seen, state = [], None
    for count, steps in ((2, 5), (1, 3), (3, None)):
        places = []
        for index in range(count):
            iterator = iter(loader_of(store, part=Part(index, count)))
            if state is not None:
                iterator.set_state(state)
            left = iterator if steps is None else (next(iterator) for _ in range(steps))
            seen += [batch.molecule_index[batch.molecule_mask] for batch in left]
            places.append(iterator.get_state())
        assert all(place == places[0] for place in places)
        state = places[0]
    np.testing.assert_array_equal(np.sort(np.concatenate(seen)), np.arange(N))


def test_a_share_without_molecules_has_empty_batches(store):
    parts = [list(loader_of(store, molecules=[3, 5], shard=(i, 3))) for i in range(3)]
    assert [len(batches) for batches in parts] == [1, 1, 1]
    assert [int(batches[0].molecule_mask.sum()) for batches in parts] == [1, 1, 0]


def test_a_part_that_is_not_among_those_there_are_is_refused(store):
    with pytest.raises(ConfigError, match="index below"):
        loader_of(store, part=Part(2, 2))
