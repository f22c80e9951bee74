"""The plan, a pure function: what it must hold for any sizes."""

import hashlib
import itertools
from dataclasses import fields

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.loader.plan import LoaderPlan
from pipeline.loader.shapes import (
    MAX_SHAPES,
    MoleculeSizes,
    batch_bytes,
    choose_shapes,
    equal_batches,
    likely_elsewhere,
    most_pairs_of_a_batch,
    shape_bytes,
    smallest_fitting,
)


def random_sizes(seed, n, max_atoms=28, max_grid=1536, share=1.0):
    """Sizes of some of the molecules of a store."""
    rng = np.random.default_rng(seed)
    n_atoms = rng.integers(1, max_atoms + 1, n)
    return MoleculeSizes(
        rows=np.sort(rng.permutation(int(n / share))[:n]),
        n_atoms=n_atoms,
        n_grid=rng.integers(0, max_grid + 1, n),
        n_pairs=(n_atoms * (n_atoms - 1) * rng.random(n)).astype(np.int64),
    )


def make_plan(sizes, batch_size, passes=1, **options):
    defaults = {"block_size": 8, "window_steps": 4}
    shapes = choose_shapes(sizes, batch_size, passes=passes)
    return LoaderPlan(sizes=sizes, shapes=shapes, batch_size=batch_size, **{**defaults, **options})


plan_options = st.fixed_dictionaries(
    {
        "seed": st.integers(0, 1000),
        "n": st.integers(1, 200),
        "share": st.sampled_from([1.0, 0.8, 0.1]),
        "batch_size": st.integers(1, 20),
        "block_size": st.sampled_from([1, 8, 64]),
        "window_steps": st.integers(1, 12),
        "n_shards": st.integers(1, 5),
    }
)


def random_plan(seed, n, share, batch_size, **options):
    return make_plan(random_sizes(seed, n, share=share), batch_size, **options)


@settings(max_examples=50)
@given(options=plan_options, shuffle=st.booleans(), epoch=st.integers(0, 3))
def test_each_molecule_comes_exactly_once(options, shuffle, epoch):
    plan = random_plan(**options, shuffle=shuffle)
    members = plan.epoch(epoch).members
    assert members.shape == (plan.steps, plan.n_shards, plan.batch_size)
    np.testing.assert_array_equal(np.sort(members[members >= 0]), np.arange(plan.n_molecules))


@settings(max_examples=50)
@given(options=plan_options, shuffle=st.booleans(), epoch=st.integers(0, 3))
def test_every_batch_fits_its_shape(options, shuffle, epoch):
    plan = random_plan(**options, shuffle=shuffle)
    epoch_plan, sizes = plan.epoch(epoch), plan.sizes
    for members, index in zip(epoch_plan.members, epoch_plan.shape_index, strict=True):
        for batch in members:
            there = batch[batch >= 0]
            _, A, G, P = plan.shapes[index]
            assert sizes.n_atoms[there].max(initial=0) <= A
            assert sizes.n_grid[there].max(initial=0) <= G
            assert sizes.n_pairs[there].sum() <= P


@settings(max_examples=40)
@given(options=plan_options)
def test_only_the_last_batches_have_empty_places_behind_the_molecules(options):
    plan = random_plan(**options)
    empty = plan.epoch(0).members < 0
    assert (np.diff(empty.astype(int), axis=2) >= 0).all()
    per_shard = empty.sum(axis=(0, 2))
    assert per_shard.max() - per_shard.min() <= 1
    # One molecule fewer than the others may leave a shard a batch of its own empty.
    assert not empty[:-1].any() or plan.n_molecules < plan.n_shards


@settings(max_examples=40)
@given(options=plan_options)
def test_windows_are_contiguous_and_bounded(options):
    plan = random_plan(**options)
    window = plan.epoch(0).window
    assert (np.diff(window) >= 0).all()
    steps = np.bincount(window, minlength=plan.n_windows)
    assert len(steps) == plan.n_windows
    assert steps.max() <= plan.window_steps
    assert steps.max() - steps.min() <= 1


@settings(max_examples=25)
@given(options=plan_options)
def test_a_shard_reads_few_blocks_more_than_its_molecules_fill(options):
    plan = random_plan(**options)
    members = plan.epoch(0).members
    blocks = [
        set((plan.sizes.rows[m[m >= 0]] // plan.block_size).tolist())
        for m in members.transpose(1, 0, 2).reshape(plan.n_shards, -1)
    ]
    shared = sum(map(len, blocks)) - len(set().union(*blocks))
    assert shared <= plan.n_shards - 1


def test_the_order_is_a_function_of_seed_and_epoch_alone():
    sizes = random_sizes(0, 300)
    plan, again = (make_plan(sizes, 16, seed=3) for _ in range(2))
    first = plan.epoch(0)
    plan.epoch(5)
    np.testing.assert_array_equal(plan.epoch(1).members, again.epoch(1).members)
    np.testing.assert_array_equal(first.members, again.epoch(0).members)
    assert not np.array_equal(first.members, plan.epoch(1).members)
    other = make_plan(sizes, 16, seed=4)
    assert not np.array_equal(first.members, other.epoch(0).members)


def test_without_shuffle_all_epochs_are_alike_and_windows_follow_the_store():
    plan = make_plan(random_sizes(0, 300), 16, shuffle=False)
    first, second = plan.epoch(0), plan.epoch(1)
    np.testing.assert_array_equal(first.members, second.members)
    for window in range(plan.n_windows - 1):
        here = first.members[first.window == window]
        after = first.members[first.window == window + 1]
        assert here.max() < after[after >= 0].min()


@pytest.mark.parametrize(("passes", "most"), [(1, 0.12), (1000, 0.10)])
@pytest.mark.parametrize("correlated", [True, False])
def test_padding_wastes_about_a_tenth(correlated, passes, most):
    rng = np.random.default_rng(0)
    n = 20_000
    n_atoms = rng.integers(4, 29, n)
    if correlated:  # the surface of a molecule grows with it
        n_grid = np.clip(500 + 43 * (n_atoms - 4) + rng.normal(0, 60, n), 500, 1536).astype(int)
    else:
        n_grid = rng.integers(500, 1537, n)
    n_pairs = (n_atoms * np.minimum(n_atoms - 1, 14) * rng.uniform(0.8, 1, n)).astype(int)
    sizes = MoleculeSizes(np.arange(n), n_atoms, n_grid, n_pairs)
    report = make_plan(sizes, 64, passes, block_size=256, window_steps=160).report()
    assert report.padding_waste <= most
    assert len(report.shapes) <= MAX_SHAPES


@settings(max_examples=25)
@given(seed=st.integers(0, 1000), n=st.integers(1, 3000), batch_size=st.integers(1, 64))
def test_more_passes_are_worth_as_many_shapes_or_more(seed, n, batch_size):
    sizes = random_sizes(seed, n)
    counts = [len(choose_shapes(sizes, batch_size, passes=p)) for p in (1, 10, 100, 1000)]
    assert counts == sorted(counts)


def test_shapes_that_save_less_than_compiling_takes_are_not_made():
    """Grids of one size, so that shapes save atoms, which hardly show in the bytes."""
    rng = np.random.default_rng(0)
    n_atoms = np.clip(rng.normal(18, 3, 4000).round().astype(int), 4, 29)
    sizes = MoleculeSizes(np.arange(4000), n_atoms, np.full(4000, 1000), n_atoms * 13)

    def atoms_of(passes):
        return [shape.atoms for shape in choose_shapes(sizes, 32, passes=passes)]

    assert set(atoms_of(1)) == {28}
    assert len(set(atoms_of(1000))) > 3


@settings(max_examples=25)
@given(
    seed=st.integers(0, 1000),
    n=st.integers(90, 1000),
    batches=st.integers(4, 12),
    per_atom=st.sampled_from([0, 40, 60]),
)
def test_padding_wastes_at_most_fifteen_percent_of_small_stores(seed, n, batches, per_atom):
    """At any batch size: molecules as QM9 has them, with a grid that grows with them or none."""
    rng = np.random.default_rng(seed)
    n_atoms = np.clip(rng.normal(18, 3, n).round().astype(int), 4, 29)
    n_grid = n_atoms * per_atom + rng.integers(0, per_atom + 1, n)
    n_pairs = (n_atoms * np.minimum(n_atoms - 1, 13) * rng.uniform(0.8, 1, n)).astype(int)
    plan = make_plan(
        MoleculeSizes(np.arange(n), n_atoms, n_grid, n_pairs),
        equal_batches(n, -(-n // batches)),
        window_steps=n,
    )
    assert np.mean([plan.report(epoch).padding_waste for epoch in range(8)]) <= 0.15


def test_molecules_of_one_size_have_one_shape_that_wastes_nothing():
    sizes = MoleculeSizes(np.arange(90), *(np.full(90, each) for each in (18, 640, 128)))
    report = make_plan(sizes, 30).report()
    assert len(report.shapes) == 1
    assert report.padding_waste == 0


@settings(max_examples=25)
@given(
    seed=st.integers(0, 1000),
    batches=st.integers(1, 9),
    batch_size=st.integers(1, 40),
    fill=st.integers(0, 39),
)
def test_batches_of_a_bucket_differ_in_pairs_by_less_than_molecules_do(
    seed, batches, batch_size, fill
):
    n = max(1, batches * batch_size - fill % batch_size)
    n_pairs = np.random.default_rng(seed).integers(0, 500, n)
    sizes = MoleculeSizes(np.arange(n), np.full(n, 23), np.full(n, 16), n_pairs)
    members = make_plan(sizes, batch_size, window_steps=n).epoch(0).members[:, 0]
    means = [n_pairs[batch[batch >= 0]].mean() for batch in members]
    filled = [mean for mean, batch in zip(means, members, strict=True) if batch.min() >= 0]
    assert np.ptp(filled or [0]) * batch_size <= np.ptp(n_pairs) + 1e-9
    # One that is not full has its share, too: every k-th of those in order.
    assert np.ptp(means) * (batch_size - fill % batch_size) <= 2 * np.ptp(n_pairs) + 1e-9


def test_halves_of_a_batch_have_about_as_many_pairs():
    """A device's share: of two random halves of 64 the difference would be 2.3 ranges."""
    n_pairs = np.random.default_rng(0).integers(0, 1000, 64 * 40)
    sizes = MoleculeSizes(np.arange(64 * 40), *(np.full(64 * 40, n) for n in (23, 16)), n_pairs)
    members = make_plan(sizes, 64, window_steps=40).epoch(0).members[:, 0]
    first, second = n_pairs[members].reshape(40, 2, 32).sum(axis=2).T
    assert np.abs(first - second).max() < 1200


def test_the_shuffle_stays_within_its_bounds():
    """A window holds a fifth of the epoch: neighbours come apart by about as much."""
    sizes = random_sizes(1, 10_240)
    plan = make_plan(sizes, 16, block_size=64, window_steps=128)
    reports = [plan.report(epoch) for epoch in range(5)]
    displacement = np.array([report.shuffle_displacement for report in reports])
    separation = np.array([report.shuffle_separation for report in reports])
    assert plan.n_windows == 5
    assert (np.abs(displacement - 1) < 0.1).all()
    assert (np.abs(separation - 0.2) < 0.03).all()
    whole = make_plan(sizes, 16, window_steps=640).report()
    assert abs(whole.shuffle_displacement - 1) < 0.05
    assert abs(whole.shuffle_separation - 1) < 0.05


def test_batches_of_two_epochs_have_few_molecules_in_common():
    plan = make_plan(random_sizes(2, 4096), 16, window_steps=256)
    mates = []
    for epoch in range(2):
        batch_of = np.empty(4096, int)
        members = plan.epoch(epoch).members.reshape(-1, 16)
        batch_of[members] = np.arange(256)[:, None]
        mates.append(batch_of[:, None] == batch_of)
    together = [m.sum() - 4096 for m in mates]
    again = (mates[0] & mates[1]).sum() - 4096
    # Of like size is an eighth of the molecules at random: 2048 / 4 batches of 16.
    assert again / together[0] < 3 * 15 / (4096 / 8)


def test_an_empty_split_has_no_batches():
    sizes = random_sizes(0, 10)
    plan = LoaderPlan(
        sizes.select(np.zeros(10, bool)), choose_shapes(sizes, 4), 4, block_size=8, window_steps=2
    )
    assert plan.steps == 0
    assert plan.epoch(0).members.size == 0
    assert plan.report().n_molecules == 0


@settings(max_examples=25)
@given(seed=st.integers(0, 1000), n=st.integers(1, 300), batch_size=st.integers(1, 32))
def test_shapes_ascend_and_the_last_fits_the_worst_batch(seed, n, batch_size):
    sizes = random_sizes(seed, n)
    shapes = choose_shapes(sizes, batch_size)
    assert 1 <= len(shapes) <= MAX_SHAPES
    assert (np.diff(np.array(shapes), axis=0) >= 0).all()
    last = shapes[-1]
    assert last.atoms >= sizes.n_atoms.max()
    assert last.grid_points >= sizes.n_grid.max()
    assert last.pairs >= np.sort(sizes.n_pairs)[-batch_size:].sum()


@given(
    seed=st.integers(0, 1000),
    n=st.integers(1, 300),
    batch_size=st.integers(1, 64),
    max_grid=st.sampled_from([1, 1536]),
)
def test_shapes_that_other_data_have_hold_every_batch(seed, n, batch_size, max_grid):
    sizes = random_sizes(seed, n, max_grid=max_grid)
    equal = -(-n // -(-n // batch_size))
    shapes = choose_shapes(sizes, equal)
    roomier = likely_elsewhere(shapes, batch_size)
    (B,) = {shape.molecules for shape in roomier}
    assert equal <= B <= min(batch_size, 1.25 * equal)
    for shape in shapes:
        (other,) = likely_elsewhere([shape], batch_size)
        assert other in roomier
        assert np.all(np.array(other) >= shape)
        assert other.pairs * equal >= shape.pairs * B
    assert roomier[-1].pairs >= most_pairs_of_a_batch(sizes.n_pairs, B)
    assert np.all(np.array(roomier[-1]) <= 1.6 * np.array(shapes[-1]) + 1)


def test_data_that_are_alike_have_such_shapes_in_common():
    found = {
        likely_elsewhere(choose_shapes(random_sizes(seed, n), 32, 2), 32)
        for seed, n in ((0, 640), (1, 960), (2, 1600))
    }
    assert len(found) < 3
    for shapes in found:
        assert {shape.molecules for shape in shapes} == {32}


@given(seed=st.integers(0, 1000), n=st.integers(1, 60))
def test_the_first_fitting_shape_is_found(seed, n):
    sizes = random_sizes(seed, n)
    shapes = choose_shapes(sizes, 1)
    found = smallest_fitting(shapes, sizes.n_atoms, sizes.n_grid, sizes.n_pairs)
    for i, index in enumerate(found):
        wanted = (1, sizes.n_atoms[i], sizes.n_grid[i], sizes.n_pairs[i])
        fits = [all(np.array(shape) >= wanted) for shape in shapes]
        assert index == fits.index(True)


def test_few_sizes_have_a_shape_each_and_waste_nothing_on_atoms_and_points():
    n_atoms = np.repeat([4, 10, 20], 32)
    sizes = MoleculeSizes(np.arange(96), n_atoms, n_atoms * 16, n_atoms * 0 + 64)
    shapes = choose_shapes(sizes, 8)
    assert [(s.atoms, s.grid_points) for s in shapes] == [(4, 64), (10, 160), (20, 320)]


def test_the_partition_is_the_best_there_is():
    """Against every way of cutting twelve sizes into as many parts."""
    rng = np.random.default_rng(5)
    n_grid = np.sort(rng.integers(1, 60, 12)) * 16
    sizes = MoleculeSizes(np.arange(12), np.full(12, 2), n_grid, np.zeros(12, int))
    bytes_of = batch_bytes(np.full(12, 2), n_grid, 0)
    shapes = choose_shapes(sizes, 1)
    assert 2 < len(shapes) < 6
    best = min(
        sum(bytes_of[end - 1] * (end - start) for start, end in itertools.pairwise((0, *cut, 12)))
        for cut in itertools.combinations(range(1, 12), len(shapes) - 1)
    )
    index = smallest_fitting(shapes, sizes.n_atoms, sizes.n_grid, sizes.n_pairs)
    # Each shape has room for a pair at least, which is no part of the partition.
    pair = shape_bytes(shapes[0]._replace(pairs=1)) - shape_bytes(shapes[0]._replace(pairs=0))
    taken = sum(shape_bytes(shapes[i]._replace(pairs=0)) for i in index)
    assert taken == best
    assert pair > 0


@settings(max_examples=40)
@given(options=plan_options, shuffle=st.booleans(), data=st.data())
def test_a_window_is_planned_without_the_others(options, shuffle, data):
    plan = random_plan(**options, shuffle=shuffle)
    epoch = plan.epoch(1)
    window = data.draw(st.integers(0, plan.n_windows - 1))
    alone = plan.window(plan.order(1), window)
    np.testing.assert_array_equal(alone.members, epoch.members[epoch.window == window])
    np.testing.assert_array_equal(alone.shape_index, epoch.shape_index[epoch.window == window])
    steps = alone.first_step + np.arange(len(alone.members))
    assert [plan.window_of(int(step)) for step in steps] == [window] * len(steps)


def test_the_plan_of_a_seed_never_changes():
    """Written down: a release with other batches could not resume inside an epoch."""
    n = 400
    n_atoms = np.arange(n) * 7 % 23 + 1
    sizes = MoleculeSizes(np.arange(n) * 5 // 4, n_atoms, n_atoms * 40, n_atoms * (n_atoms - 1))
    narrow = MoleculeSizes(*(getattr(sizes, f.name).astype(np.int32) for f in fields(sizes)))
    for each in (sizes, narrow):
        plan = make_plan(each, 8, seed=5, n_shards=2)
        epoch = plan.epoch(3)
        told = (epoch.members.astype("<i8"), epoch.shape_index.astype("<i8"))
        digest = hashlib.sha256(b"".join(array.tobytes() for array in told)).hexdigest()
        assert (digest[:16], plan.fingerprint) == PINNED


PINNED = ("6fc821880f7bd16d", "03b92b7e5b27bf7b")
