"""Splits: stable, grouped, and those the files brought."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.store.splits import (
    SPLITS,
    assign,
    conformers_are_split,
    formulas,
    split_store,
    uniform_hashes,
)
from store_schema.problems import ConfigError, StoreError
from tests.stores import random_columns, write_store

names = st.lists(st.text(max_size=12), max_size=40)


@given(first=names, second=names)
def test_what_comes_later_moves_nothing(first, second):
    fractions = (0.7, 0.2)
    np.testing.assert_array_equal(
        assign(first + second, fractions)[: len(first)], assign(first, fractions)
    )
    alone = [assign([name], fractions)[0] for name in first]
    np.testing.assert_array_equal(assign(first, fractions), alone)


def test_hashes_are_uniform():
    u = np.sort(uniform_hashes(f"C{i}" for i in range(20_000)))
    assert u[0] >= 0
    assert u[-1] < 1
    # Kolmogorov-Smirnov: 1.95 / sqrt(n) is exceeded once in a thousand samples.
    assert np.abs(u - np.arange(20_000) / 20_000).max() < 1.95 / 20_000**0.5


@pytest.mark.parametrize("fractions", [(0.8, 0.1), (0.5, 0.5), (0.0, 1.0), (1.0, 0.0)])
def test_shares_are_those_asked_for(fractions):
    labels = assign((f"C{i}" for i in range(20_000)), fractions)
    for split, share in zip(SPLITS, (*fractions, 1 - sum(fractions)), strict=True):
        assert abs((labels == split).mean() - share) < 0.012


def test_the_hash_never_changes():
    """Written down: a release that moved molecules would leak test into training."""
    assert assign(["CCO", "C", "[NH4+]", "c1ccccc1", "O", "CC"], (0.5, 0.3)).tolist() == PINNED


PINNED = ["train", "train", "train", "test", "train", "test"]


def small_store(path, ids, **options):
    n = len(ids)
    rng = np.random.default_rng(0)
    columns = random_columns(rng, np.full(n, 3), np.full(n, 4))
    return write_store(path, columns, ids, **options), columns


def test_conformers_stay_together(tmp_path):
    ids = [f"C/C=C/C{i % 50}/{i // 50}" for i in range(200)]
    path, _ = small_store(tmp_path / "s.zarr", ids)
    labels = split_store(path, (0.5, 0.25)).labels.reshape(4, 50)
    assert (labels == labels[0]).all()
    assert set(labels[0]) == set(SPLITS)


def test_conformers_of_few_molecules_are_split_whatever_their_order_and_padding(tmp_path):
    ids = [f"CO/{i}" for i in range(60)] + [f"O/{i}" for i in range(40)]
    path, columns = small_store(tmp_path / "s.zarr", ids)
    assert conformers_are_split(path)
    labels = split_store(path, (0.5, 0.3)).labels
    assert set(labels[:60]) == set(labels[60:]) == set(SPLITS)
    assert "geometry" in split_store(path).evidence
    order = np.random.default_rng(1).permutation(100)
    turned = {key: values[order] for key, values in columns.items()}
    wider = [(0, 0), (0, 2), (0, 0)]
    turned["positions"] = np.pad(turned["positions"], wider, constant_values=np.nan)
    turned["atomic_numbers"] = np.pad(turned["atomic_numbers"], wider[:2])
    other = write_store(tmp_path / "t.zarr", turned, [ids[i] for i in order])
    np.testing.assert_array_equal(split_store(other, (0.5, 0.3)).labels, labels[order])
    many, _ = small_store(tmp_path / "u.zarr", [f"{'C' * (i % 10 + 1)}/{i}" for i in range(40)])
    assert not conformers_are_split(many)


def test_formulas_stay_together(tmp_path):
    path, columns = small_store(tmp_path / "s.zarr", [f"m{i}" for i in range(120)])
    labels = split_store(path, (0.4, 0.3), group_by="formula").labels
    composition = [tuple(sorted(z[:3])) for z in columns["atomic_numbers"]]
    of_composition = {}
    for label, key in zip(labels, composition, strict=True):
        assert of_composition.setdefault(key, label) == label


def test_a_formula_counts_elements_and_no_padding():
    Z = np.array([[6, 1, 1, 0], [1, 6, 1, 0], [8, 1, 1, 0], [1, 0, 0, 0]])
    first, second, third, fourth = formulas(Z)
    assert first == second == "1:2 6:1"
    assert third == "1:2 8:1"
    assert fourth == "1:1"


def test_a_key_of_the_store_groups(tmp_path):
    path, columns = small_store(tmp_path / "s.zarr", [f"m{i}" for i in range(60)])
    labels = split_store(path, (0.5, 0.3), group_by="total_charge").labels
    for charge in (-1.0, 0.0, 1.0):
        assert len(set(labels[columns["total_charge"] == charge])) == 1
    for unusable in ("esp", "nothing"):
        with pytest.raises(ConfigError, match="belong together"):
            split_store(path, group_by=unusable)


def test_a_split_of_the_files_wins(tmp_path):
    given_ = ["train", "val", "Test", "validation", "training"]
    path, _ = small_store(tmp_path / "s.zarr", list("abcde"), split=given_)
    splits = split_store(path, (0.0, 0.0))
    assert splits.labels.tolist() == ["train", "valid", "test", "valid", "train"]
    assert splits.counts == {"train": 2, "valid": 2, "test": 1}
    assert "split" in splits.evidence


def test_a_split_of_another_name_is_refused(tmp_path):
    path, _ = small_store(tmp_path / "s.zarr", list("ab"), split=["train", "hold-out"])
    with pytest.raises(StoreError, match="hold-out"):
        split_store(path)


def test_molecules_without_an_id_are_not_one_group(tmp_path):
    path, _ = small_store(tmp_path / "s.zarr", [""] * 100)
    assert min(split_store(path, (0.5, 0.3)).counts.values()) > 0


@pytest.mark.parametrize("fractions", [(0.8,), (0.9, 0.2), (-0.1, 0.5)])
def test_fractions_are_shares(tmp_path, fractions):
    path, _ = small_store(tmp_path / "s.zarr", ["a"])
    with pytest.raises(ConfigError, match="shares"):
        split_store(path, fractions)
