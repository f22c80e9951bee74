"""Charges by least squares, free and under their exact sum."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.chemistry.fitted_charges import solve_charges


def solved(library, design, esp, mask, **options):
    """Of one molecule, whose design has a row per point."""
    columns = [design.T @ design, design.T @ esp, mask]
    with jax.enable_x64(True):
        arrays = [library.asarray(column[None]) for column in columns]
        options = {k: library.asarray([v]) if k != "ridge" else v for k, v in options.items()}
        return np.asarray(solve_charges(*arrays, **options))[0]


@pytest.mark.parametrize("library", [np, jnp], ids=["numpy", "jax"])
@settings(max_examples=15)
@given(st.integers(0, 2**31), st.sampled_from([(1, 0), (2, 1), (6, 3)]), st.floats(1e-6, 1.0))
def test_they_solve_the_bordered_system(library, seed, sizes, ridge):
    """Lagrange's conditions, whose matrix is N with a row and a column of ones added."""
    charges, padding = sizes  # few, since each is compiled
    rng = np.random.default_rng(seed)
    design, esp = rng.normal(size=(9, charges)), rng.normal(size=9)
    padded = np.pad(design, ((0, 0), (0, padding)))
    mask = np.arange(charges + padding) < charges
    normal = design.T @ design
    normal += ridge * np.trace(normal) / charges * np.eye(charges)
    free = np.linalg.solve(normal, design.T @ esp)
    ones = np.ones((charges, 1))
    bordered = np.block([[normal, ones], [ones.T, np.zeros((1, 1))]])
    bound = np.linalg.solve(bordered, [*(design.T @ esp), 2.0])[:-1]
    for expected, options in [(free, {}), (bound, {"total": 2.0})]:
        found = solved(library, padded, esp, mask, ridge=ridge, **options)
        np.testing.assert_allclose(found[:charges], expected, atol=1e-8)
        assert not found[charges:].any()


@settings(max_examples=30)
@given(st.integers(0, 2**31), st.integers(1, 6), st.sampled_from([-1.0, 0.0, 2.0, np.nan]))
def test_the_sum_is_exact_and_the_rank_does_not_matter(seed, points, total):
    """Fewer points than atoms, and atoms at the same place."""
    rng = np.random.default_rng(seed)
    design, esp = rng.normal(size=(points, 5)), rng.normal(size=points)
    design[:, 3] = design[:, 2]
    design[:, 4] = 0.0  # padding
    mask, known = np.array([True] * 4 + [False]), np.isfinite(total)
    sums = {"total": np.where(known, total, 0.0), "known": known}
    charges = solved(jnp, design, esp, mask, ridge=1e-10, **sums)
    assert charges[4] == 0
    if known:
        assert charges.sum() == pytest.approx(total, abs=1e-9)
    else:
        best = np.linalg.lstsq(design, esp)[0]
        left = [np.linalg.norm(design @ q - esp) for q in (charges, best)]
        assert left[0] == pytest.approx(left[1], abs=1e-4)
