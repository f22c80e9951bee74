"""Charges sum to the total charge, by the smallest change that makes them."""

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dcmnet.model.charge_constraint import constrain_total_charge
from tests.molecules import seeds

B, A = 4, 24
constrain = jax.jit(constrain_total_charge)


def random_charges(seed, n_dcm):
    rng = np.random.default_rng(seed)
    charges = rng.normal(scale=0.7, size=(B, A, n_dcm)).astype(np.float32)
    atom_mask = np.arange(A) < rng.integers(1, A + 1, B)[:, None]
    return rng, charges, atom_mask


@settings(max_examples=60)
@given(seed=seeds, n_dcm=st.integers(1, 7), scale=st.sampled_from([0.1, 1.0, 10.0]))
def test_sum_is_the_total_charge_of_ions_too(seed, n_dcm, scale):
    """The trap of a net charge forced to 0: cations and anions keep theirs, to 1e-6.

    Charges far larger than any sensible model's must not cost the exact sum.
    """
    _, charges, atom_mask = random_charges(seed, n_dcm)
    charges *= scale
    total = np.array([-1, 0, 1, 2], np.float32)
    found = np.asarray(constrain(charges, atom_mask, total, np.ones(B, bool)))
    sums = found.astype(np.float64).sum(axis=(1, 2))
    np.testing.assert_allclose(sums, total, rtol=0, atol=1e-6)
    assert not found[~atom_mask].any()


@settings(max_examples=20)
@given(seed=seeds)
def test_all_charges_of_a_molecule_shift_alike(seed):
    """Then the change is orthogonal to every change that keeps the sum: it is the smallest."""
    rng, charges, atom_mask = random_charges(seed, 3)
    total = rng.integers(-1, 2, B).astype(np.float32)
    found = np.asarray(constrain(charges, atom_mask, total, np.ones(B, bool)))
    for b in range(B):
        shift = (found - charges)[b][atom_mask[b]].astype(np.float64)
        excess = charges[b][atom_mask[b]].astype(np.float64).sum() - total[b]
        np.testing.assert_allclose(shift, -excess / shift.size, rtol=0, atol=2e-6)


def test_unknown_total_charge_leaves_charges_alone():
    _, charges, atom_mask = random_charges(1, 2)
    known = np.array([True, False, True, False])
    found = np.asarray(constrain(charges, atom_mask, np.zeros(B, np.float32), known))
    sums = found.sum(axis=(1, 2))
    np.testing.assert_allclose(sums[known], 0, atol=1e-6)
    for b in np.flatnonzero(~known):
        np.testing.assert_array_equal(found[b][atom_mask[b]], charges[b][atom_mask[b]])


def test_gradient_is_the_projection():
    """d found / d charges = 1 - 1/n inside a molecule: a common shift has no effect at all."""
    rng, charges, atom_mask = random_charges(2, 2)
    c = rng.normal(size=charges.shape).astype(np.float32)
    total, known = np.ones(B, np.float32), np.ones(B, bool)
    gradient = jax.grad(lambda q: (c * constrain(q, atom_mask, total, known)).sum())(charges)
    inside = np.broadcast_to(atom_mask[:, :, None], c.shape)
    mean = np.array([c[b][atom_mask[b]].mean() for b in range(B)])
    expected = np.where(inside, c - mean[:, None, None], 0)
    np.testing.assert_allclose(gradient, expected, atol=1e-5)


@pytest.mark.parametrize("known", [True, False])
def test_an_empty_molecule_gets_zeros(known):
    charges = np.ones((1, 3, 2), np.float32)
    found = constrain(charges, np.zeros((1, 3), bool), np.zeros(1, np.float32), np.array([known]))
    np.testing.assert_array_equal(found, np.zeros((1, 3, 2)))


@settings(max_examples=30)
@given(seed=seeds, n_dcm=st.integers(1, 4))
def test_softness_shares_what_is_lacking_in_its_proportion(seed, n_dcm):
    """The closed form of charge equilibration without Coulomb energy, in float64."""
    rng, charges, atom_mask = random_charges(seed, n_dcm)
    softness = rng.uniform(0.1, 3.0, (B, A)).astype(np.float32)
    total = rng.integers(-1, 2, B).astype(np.float32)
    found = np.asarray(constrain(charges, atom_mask, total, np.ones(B, bool), softness))
    np.testing.assert_allclose(found.astype(np.float64).sum(axis=(1, 2)), total, atol=1e-6)
    for b in range(B):
        own, s = charges[b][atom_mask[b]].astype(np.float64), softness[b][atom_mask[b]]
        lacking = total[b] - own.sum()
        expected = own + (lacking * s / s.sum() / n_dcm)[:, None]
        np.testing.assert_allclose(found[b][atom_mask[b]], expected, rtol=0, atol=2e-6)
