"""The loader on real stores: values, order, resume, processes."""

import json
import threading

import jax
import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.loader import BatchShape, make_loader
from pipeline.loader import reader as source
from pipeline.loader.shapes import likely_elsewhere
from pipeline.store.splits import split_store
from store_schema.problems import CheckpointError, ConfigError
from tests.stores import random_columns, write_store

N = 203


@pytest.fixture(scope="module")
def columns():
    rng = np.random.default_rng(11)
    return random_columns(rng, rng.integers(1, 12, N), rng.integers(1, 700, N))


@pytest.fixture(scope="module")
def store(tmp_path_factory, columns):
    ids = [f"C{i // 3}/{i % 3}" for i in range(N)]
    return write_store(tmp_path_factory.mktemp("stores") / "s.zarr", columns, ids)


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    # Several blocks and windows even in a small store.
    monkeypatch.setattr(source, "BLOCK_MOLECULES", 64)
    monkeypatch.setattr("pipeline.loader.make.BLOCK_MOLECULES", 64)


MEMORY = 2 * 40 * 16 * 1100  # two windows of about 40 molecules


def loader_of(store, **options):
    defaults = {"batch_size": 8, "split": "all", "memory_bytes": MEMORY, "prefetch": 0}
    return make_loader(store, **{**defaults, **options})


def assert_same(first, second):
    for name, a, b in zip(first._fields, first, second, strict=True):
        np.testing.assert_array_equal(a, b, err_msg=name)


def rows_of(batches):
    return np.concatenate([batch.molecule_index[batch.molecule_mask] for batch in batches])


@pytest.mark.parametrize("options", [{}, {"prefetch": 2}, {"preload": True}, {"shuffle": False}])
def test_batches_equal_what_xarray_reads(store, options):
    dataset = xr.open_zarr(store).load()
    batches = list(loader_of(store, **options))
    np.testing.assert_array_equal(np.sort(rows_of(batches)), np.arange(N))
    for batch in batches:
        for name, array in batch._asdict().items():
            assert not np.isnan(array).any(), name
        for i in np.flatnonzero(batch.molecule_mask):
            molecule = dataset.isel(molecule=int(batch.molecule_index[i]))
            A, G = int(molecule.n_atoms), int(molecule.n_grid)
            assert batch.atom_mask[i].sum() == A
            assert batch.grid_mask[i].sum() == G
            expected = {"atomic_numbers": A, "positions": A, "vdw_surface": G}
            for name, length in expected.items():
                row = getattr(batch, name)[i]
                np.testing.assert_array_equal(row[:length], molecule[name].values[:length])
                assert not row[length:].any()
            for name in ("total_charge", "monopoles", "esp", "dipole", "quadrupole"):
                row, value = getattr(batch, name)[i], molecule[name].values
                present = bool(np.isfinite(value).any())
                assert getattr(batch, f"has_{name}")[i] == present, name
                value = value[tuple(map(slice, row.shape))]
                np.testing.assert_array_equal(
                    row[tuple(map(slice, value.shape))], np.nan_to_num(value)
                )
        assert not batch.has_dipole_magnitude.any()


@settings(max_examples=15)
@given(
    batch_size=st.integers(1, 30),
    seed=st.integers(0, 100),
    memory=st.sampled_from([1, MEMORY, 10 * MEMORY, 10**9]),
    count=st.integers(1, 4),
)
def test_each_molecule_comes_once_an_epoch_on_any_number_of_processes(
    store, batch_size, seed, memory, count
):
    shards = [
        list(
            loader_of(
                store,
                batch_size=batch_size,
                seed=seed,
                memory_bytes=memory,
                shard=(index, count),
                num_epochs=2,
                fields=(),
            )
        )
        for index in range(count)
    ]
    steps = {len(batches) for batches in shards}
    assert len(steps) == 1
    half = steps.pop() // 2
    for epoch in (slice(half), slice(half, None)):
        rows = np.concatenate([rows_of(batches[epoch]) for batches in shards])
        np.testing.assert_array_equal(np.sort(rows), np.arange(N))
    for together in zip(*shards, strict=True):
        assert len({batch.shape for batch in together}) == 1


def test_at_most_eight_shapes_in_a_run(store):
    shapes = {batch.shape for batch in loader_of(store, num_epochs=4)}
    assert 1 < len(shapes) <= 8


@pytest.mark.parametrize("batch_size", [7, 16, 100, 10_000])
def test_batches_are_as_few_and_as_equal_as_can_be(store, batch_size):
    loader = loader_of(store, batch_size=batch_size, split="all")
    counts = [int(batch.molecule_mask.sum()) for batch in loader]
    assert len(counts) == -(-N // batch_size)
    assert max(counts) == -(-N // len(counts)) == loader.plan.batch_size
    assert sum(counts) == N


@pytest.mark.parametrize("prefetch", [0, 3])
@pytest.mark.parametrize("count", [1, 2])
def test_a_state_saved_at_any_batch_resumes_identically(store, prefetch, count):
    options = {
        "num_epochs": 3,
        "prefetch": prefetch,
        "rotate": True,
        "grid_points": 50,
        "shard": (count - 1, count),
    }
    iterator = iter(loader_of(store, **options))
    states, batches = [iterator.get_state()], []
    for batch in iterator:
        batches.append(batch)
        states.append(iterator.get_state())
    for at in (0, 1, 7, len(batches) // 3 - 1, len(batches) // 3, len(batches) // 2, len(batches)):
        resumed = iter(loader_of(store, **options))
        resumed.set_state(json.loads(json.dumps(states[at])))
        rest = list(resumed)
        assert len(rest) == len(batches) - at
        for expected, found in zip(batches[at:], rest, strict=True):
            assert_same(expected, found)


def test_an_iterator_goes_back_and_forth(store):
    iterator = iter(loader_of(store, num_epochs=2))
    start = iterator.get_state()
    batches = [next(iterator) for _ in range(30)]
    middle = iterator.get_state()
    after = next(iterator)
    iterator.set_state(start)
    assert_same(next(iterator), batches[0])
    iterator.set_state(middle)
    assert_same(next(iterator), after)


def test_a_state_inside_an_epoch_of_another_plan_is_refused(store):
    iterator = iter(loader_of(store))
    next(iterator)
    inside = iterator.get_state()
    other = iter(loader_of(store, seed=1))
    with pytest.raises(CheckpointError, match="the same batches"):
        other.set_state(inside)
    list(iterator)
    other.set_state(iterator.get_state())  # an epoch may begin with any plan


def test_the_order_is_a_function_of_seed_and_epoch(store):
    first, again, other = (
        rows_of(list(loader_of(store, seed=seed, num_epochs=2))) for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    assert not np.array_equal(first[:N], first[N:])
    second_epoch = rows_of(list(loader_of(store, seed=0, start_epoch=1)))
    np.testing.assert_array_equal(first[N:], second_epoch)


def test_only_the_fields_asked_for_are_read(store, monkeypatch):
    opened = []
    original = source.StoreReader._open_array
    monkeypatch.setattr(
        source.StoreReader,
        "_open_array",
        lambda self, name: opened.append(name) or original(self, name),
    )
    batch = next(iter(loader_of(store, fields=("monopoles",), cutoff=3.9)))
    assert set(opened) == {"atomic_numbers", "positions", "monopoles"}
    assert batch.esp.shape[1] == 0
    assert batch.has_monopoles.any()
    for name in ("esp", "total_charge", "dipole", "quadrupole"):
        assert not getattr(batch, f"has_{name}").any()


def test_memory_is_two_windows_and_used_again(store, monkeypatch):
    allocated = []
    original = source.StoreReader.allocate
    monkeypatch.setattr(
        source.StoreReader,
        "allocate",
        lambda self, n, *widths: allocated.append(n) or original(self, n, *widths),
    )
    loader = loader_of(store, num_epochs=20, cutoff=3.8)
    assert loader.plan.n_windows > 3
    list(loader)
    windows = allocated[1:]  # the first was for counting pairs
    # Windows differ by a block at most: memory is replaced until the largest has come.
    assert len(windows) < 12
    assert max(windows) <= loader.plan.window_steps * 8 + 2 * 64


@pytest.mark.parametrize("options", [{"preload": True}, {"memory_bytes": 10**8}])
def test_molecules_that_fit_in_memory_are_read_once(store, monkeypatch, options):
    reads = []
    original = source.StoreReader.read
    monkeypatch.setattr(
        source.StoreReader, "read", lambda self, *args: reads.append(1) or original(self, *args)
    )
    loader = loader_of(store, num_epochs=5, **options)
    reads.clear()
    list(loader)
    assert len(reads) == 1


def test_chunks_of_padding_do_not_exist_and_are_not_missed(tmp_path):
    rng = np.random.default_rng(3)
    n_grid = np.full(130, 30)
    n_grid[5] = 1200  # one long molecule: the second chunk of points exists once
    path = write_store(tmp_path / "s.zarr", random_columns(rng, np.full(130, 3), n_grid, missing=0))
    batches = list(loader_of(path, batch_size=16))
    assert sum(batch.grid_mask.sum() for batch in batches) == n_grid.sum()
    assert all(batch.has_esp[batch.molecule_mask].all() for batch in batches)


def test_grid_points_are_a_random_subset_of_each_epoch(store, columns):
    K = 40
    seen = []
    for batch in loader_of(store, grid_points=K, num_epochs=2):
        assert batch.shape.grid_points < K + 16
        for i in np.flatnonzero(batch.molecule_mask):
            row = batch.molecule_index[i]
            n = columns["n_grid"][row]
            mask = batch.grid_mask[i]
            assert mask.sum() == min(n, K)
            points = batch.vdw_surface[i][mask]
            match = (columns["vdw_surface"][row][:n, None] == points).all(axis=2)
            assert match.sum() == min(n, K)  # every one is a point of its own
            chosen = match.argmax(axis=0)
            if batch.has_esp[i]:
                np.testing.assert_array_equal(batch.esp[i][mask], columns["esp"][row][chosen])
            seen.append((row, tuple(sorted(chosen))))
    large = [entry for entry in seen if columns["n_grid"][entry[0]] > 3 * K]
    assert len(set(large)) == len(large)


def test_rotation_leaves_the_physics_alone(store):
    plain, turned = loader_of(store), loader_of(store, rotate=True)
    moved = 0.0
    for a, b in zip(plain, turned, strict=True):
        np.testing.assert_array_equal(a.pair_dst, b.pair_dst)
        np.testing.assert_array_equal(a.esp, b.esp)
        for name in ("positions", "vdw_surface", "dipole"):
            x, y = getattr(a, name), getattr(b, name)
            np.testing.assert_allclose(
                np.linalg.norm(x, axis=-1), np.linalg.norm(y, axis=-1), atol=1e-5
            )
            moved = max(moved, np.abs(x - y).max())
        # Projection of the grid on the dipole, and the quadrupole's form along the atoms.
        np.testing.assert_allclose(
            np.einsum("bgi,bi->bg", a.vdw_surface, a.dipole),
            np.einsum("bgi,bi->bg", b.vdw_surface, b.dipole),
            atol=1e-4,
        )
        np.testing.assert_allclose(
            np.einsum("bai,bij,baj->ba", a.positions, a.quadrupole, a.positions),
            np.einsum("bai,bij,baj->ba", b.positions, b.quadrupole, b.positions),
            atol=1e-3,
        )
    assert moved > 1


def test_splits_are_disjoint_complete_and_keep_conformers_together(store):
    rows = {
        split: rows_of(list(loader_of(store, split=split))) for split in ("train", "valid", "test")
    }
    np.testing.assert_array_equal(np.sort(np.concatenate([*rows.values()])), np.arange(N))
    groups = [set((r // 3).tolist()) for r in rows.values()]
    assert sum(map(len, groups)) == len(set().union(*groups))
    counts = split_store(store).counts
    assert counts == {split: len(r) for split, r in rows.items()}


def test_a_subset_can_be_named_or_limited(store):
    some = rows_of(list(loader_of(store, molecules=[3, 5, 150])))
    assert sorted(some.tolist()) == [3, 5, 150]
    few = loader_of(store, max_molecules=20)
    assert few.n_molecules == 20
    more = loader_of(store, max_molecules=40)
    assert set(rows_of(list(few))) < set(rows_of(list(more)))


def test_a_loader_describes_itself(store):
    loader = loader_of(store)
    report = loader.describe()
    batches = list(loader)
    assert report.n_molecules == loader.n_molecules == N
    assert report.batches_per_epoch == loader.batches_per_epoch == len(batches) == len(loader)
    used = {s for s, share in zip(report.shapes, report.shape_shares, strict=True) if share}
    assert used == {batch.shape for batch in batches}
    filled = padded = 0
    for batch in batches:
        for mask, size in ((batch.atom_mask, 21), (batch.grid_mask, 17), (batch.pair_mask, 9)):
            filled += size * mask.sum()
            padded += size * mask.size
    assert report.padding_waste == pytest.approx(1 - filled / padded)


def test_shapes_of_another_loader_are_used_and_checked(store):
    shapes = loader_of(store).plan.shapes
    assert loader_of(store, shapes=shapes[-1:], split="valid").plan.shapes == shapes[-1:]
    with pytest.raises(ConfigError, match="cut off"):
        loader_of(store, shapes=[BatchShape(8, 2, 10, 5)])
    with pytest.raises(ConfigError, match="cut off"):
        loader_of(store, shapes=shapes, batch_size=4)


def test_a_dataset_has_the_same_molecules_in_other_shapes(store):
    before = loader_of(store, split="valid")
    shapes = likely_elsewhere(before.plan.shapes, 16)
    after = before.with_shapes(shapes)
    index, other = (
        np.sort(np.concatenate([batch.molecule_index for batch in each]))
        for each in (before, after)
    )
    np.testing.assert_array_equal(index[index >= 0], other[other >= 0])
    assert {batch.shape for batch in after} <= set(shapes)


def test_an_append_is_seen_by_the_next_loader_only(tmp_path):
    rng = np.random.default_rng(0)
    columns = random_columns(rng, np.full(70, 4), np.full(70, 9), missing=0)
    path = write_store(tmp_path / "s.zarr", columns, [f"A{i}" for i in range(70)])
    before = loader_of(path, num_epochs=2)
    iterator = iter(before)
    next(iterator)
    split = split_store(path).labels
    write_store(path, columns, [f"B{i}" for i in range(70)], append=True)
    assert sum(batch.molecule_mask.sum() for batch in before) == 140
    assert loader_of(path).n_molecules == 140
    np.testing.assert_array_equal(split_store(path).labels[:70], split)


def test_a_batch_is_a_pytree_of_arrays(store):
    batch = next(iter(loader_of(store)))
    leaves = jax.tree.leaves(batch)
    assert len(leaves) == len(batch._fields)
    assert {leaf.dtype.name for leaf in leaves} == {"int32", "float32", "bool"}


@pytest.mark.parametrize("prefetch", [0, 2])
def test_reading_may_begin_before_the_first_batch(store, prefetch):
    plain, started = (iter(loader_of(store, prefetch=prefetch)) for _ in range(2))
    started.start_prefetch()
    for expected, found in zip(plain, started, strict=True):
        assert_same(expected, found)


def test_iterators_of_a_loader_share_what_is_held_in_memory(store, monkeypatch):
    loader = loader_of(store, preload=True, shuffle=False)
    first = list(loader)
    monkeypatch.setattr(source.StoreReader, "read", lambda *_: pytest.fail("read again"))
    for expected, found in zip(first, loader, strict=True):
        assert_same(expected, found)


def test_a_closed_iterator_has_no_threads(store):
    before = {*threading.enumerate()}  # those that others have let go of may end meanwhile
    iterator = iter(loader_of(store, prefetch=2))
    next(iterator)
    assert {*threading.enumerate()} - before
    iterator.close()
    assert not {*threading.enumerate()} - before
    with pytest.raises(ValueError, match="closed"):
        next(iterator)
