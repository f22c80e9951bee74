"""Random points and rotations: fair ones."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pipeline.loader.augment import choose_points, random_rotations


@given(
    n_grid=st.lists(st.integers(0, 50), min_size=1, max_size=6),
    K=st.integers(1, 40),
    extra=st.integers(0, 5),
    seed=st.integers(0, 99),
)
def test_points_are_different_and_exist(n_grid, K, extra, seed):
    rng = np.random.default_rng(seed)
    chosen = choose_points(np.array(n_grid), K, K + extra, rng)
    assert chosen.shape == (len(n_grid), K + extra)
    for n, points in zip(n_grid, chosen, strict=True):
        kept = points[points >= 0]
        assert len(kept) == len(set(kept.tolist())) == min(n, K)
        assert (kept < n).all()
        assert (points[len(kept) :] == -1).all()


def test_every_point_is_equally_likely_so_that_the_loss_is_unbiased():
    n, K, draws = 17, 6, 20_000
    chosen = choose_points(np.full(draws, n), K, K, np.random.default_rng(0))
    counts = np.bincount(chosen.reshape(-1), minlength=n)
    expected = draws * K / n
    deviation = np.sqrt(draws * (K / n) * (1 - K / n))
    assert np.abs(counts - expected).max() < 4.5 * deviation


def test_spread_points_estimate_a_smooth_mean_better_than_independent_ones():
    rng = np.random.default_rng(1)
    n, K = 600, 50
    values = np.cos(np.linspace(0, 2 * np.pi, n))
    chosen = choose_points(np.full(4000, n), K, K, rng)
    error = values[chosen].mean(axis=1) - values.mean()
    independent = values.std() / np.sqrt(K)
    assert abs(error.mean()) < 0.01
    assert error.std() < 0.5 * independent


def test_rotations_are_proper_and_uniform():
    R = random_rotations(20_000, np.random.default_rng(0))
    np.testing.assert_allclose(
        R @ R.transpose(0, 2, 1), np.eye(3)[None].repeat(20_000, 0), atol=1e-5
    )
    np.testing.assert_allclose(np.linalg.det(R), 1, atol=1e-5)
    # Of a uniform rotation every element has mean 0 and mean square 1/3.
    assert np.abs(R.mean(axis=0)).max() < 0.02
    assert np.abs((R**2).mean(axis=0) - 1 / 3).max() < 0.02
