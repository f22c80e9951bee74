"""Pairs against brute force, one distance at a time."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.loader import pairs


def brute_force(positions, atom_mask, cutoff):
    """Every ordered pair of atoms of a molecule, in double precision."""
    B, A = atom_mask.shape
    found = []
    for b in range(B):
        for i, j in itertools.product(np.flatnonzero(atom_mask[b]), repeat=2):
            distance = np.linalg.norm(positions[b, i].astype(float) - positions[b, j].astype(float))
            if i != j and distance < cutoff:
                found.append((b * A + i, b * A + j))
    return found


def random_molecules(seed, B, A, spread):
    rng = np.random.default_rng(seed)
    positions = (rng.random((B, A, 3)) * spread).astype(np.float32)
    n_atoms = rng.integers(0, A + 1, B)
    atom_mask = np.arange(A) < n_atoms[:, None]
    positions[~atom_mask] = 0  # padding at the origin, as in files
    return positions, atom_mask


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    B=st.integers(1, 5),
    A=st.integers(1, 12),
    spread=st.sampled_from([1.0, 6.0, 20.0]),
    cutoff=st.sampled_from([1.5, 4.0, 7.3]),
)
def test_pairs_equal_brute_force(seed, B, A, spread, cutoff):
    positions, atom_mask = random_molecules(seed, B, A, spread)
    dst, src = pairs.find_pairs(positions, atom_mask, cutoff)
    assert list(zip(dst, src, strict=True)) == brute_force(positions, atom_mask, cutoff)


@settings(max_examples=20, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1), A=st.integers(1, 60), spread=st.sampled_from([3.0, 9.0, 40.0])
)
def test_tree_finds_the_pairs_of_all_against_all(seed, A, spread):
    positions, atom_mask = random_molecules(seed, 3, A, spread)
    dense = pairs.find_pairs(positions, atom_mask, 4.0)
    tree = pairs._tree_pairs(positions, atom_mask, 4.0)
    np.testing.assert_array_equal(dense, tree)


def test_large_molecules_equal_brute_force():
    positions, atom_mask = random_molecules(7, 2, 260, 18.0)
    dst, src = pairs.find_pairs(positions, atom_mask, 4.0)
    assert list(zip(dst, src, strict=True)) == brute_force(positions, atom_mask, 4.0)
    np.testing.assert_array_equal(
        pairs.count_pairs(positions, atom_mask, 4.0), np.bincount(dst // 260, minlength=2)
    )


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), B=st.integers(1, 6), A=st.integers(1, 9))
def test_counts_are_those_of_the_pairs(seed, B, A):
    positions, atom_mask = random_molecules(seed, B, A, 6.0)
    dst, _ = pairs.find_pairs(positions, atom_mask, 4.0)
    counts = pairs.count_pairs(positions, atom_mask, 4.0)
    np.testing.assert_array_equal(counts, np.bincount(dst // A, minlength=B))


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_an_atom_without_a_place_is_no_pair(axis, value):
    positions, atom_mask = np.zeros((1, 3, 3), np.float32), np.ones((1, 3), bool)
    positions[0, 1, axis] = value
    dst, src = pairs.find_pairs(positions, atom_mask, 4.0)
    assert sorted(zip(dst.tolist(), src.tolist(), strict=True)) == [(0, 2), (2, 0)]
    assert pairs.count_pairs(positions, atom_mask, 4.0).tolist() == [2]


def test_an_atom_at_the_cutoff_is_no_pair():
    positions = np.array([[[0, 0, 0], [4, 0, 0]]], np.float32)
    dst, _ = pairs.find_pairs(positions, np.ones((1, 2), bool), 4.0)
    assert len(dst) == 0


def test_two_atoms_at_one_place_are_a_pair():
    positions = np.zeros((1, 2, 3), np.float32)
    dst, src = pairs.find_pairs(positions, np.ones((1, 2), bool), 4.0)
    assert list(zip(dst, src, strict=True)) == [(0, 1), (1, 0)]


def test_padding_keeps_receivers_ascending():
    dst, src, mask = pairs.pad_pairs(np.array([0, 1]), np.array([1, 0]), 5, last_atom=7)
    assert dst.tolist() == [0, 1, 7, 7, 7]
    assert src.tolist() == [1, 0, 7, 7, 7]
    assert mask.tolist() == [True, True, False, False, False]


def test_a_capacity_is_never_exceeded_silently():
    with pytest.raises(ValueError, match="3 pairs do not fit into a capacity of 2"):
        pairs.pad_pairs(np.arange(3), np.arange(3), 2, last_atom=9)
