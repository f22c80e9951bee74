"""Batches made of molecules in memory: values, zeros and masks."""

from contextlib import nullcontext

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.loader import BatchShape, make_batch
from pipeline.loader.buffer import MoleculeBuffer, settle_missing
from pipeline.loader.gather import gather
from store_schema.problems import ConfigError, SourceError

OPTIONAL = ("total_charge", "monopoles", "dipole", "dipole_magnitude", "quadrupole", "esp")


def molecule(rng, n_atoms, n_grid, without=()):
    full = {
        "atomic_numbers": rng.integers(1, 18, n_atoms),
        "positions": rng.normal(size=(n_atoms, 3)) * 3,
        "total_charge": float(rng.integers(-1, 2)),
        "monopoles": rng.normal(size=n_atoms),
        "esp": rng.normal(size=n_grid),
        "vdw_surface": rng.normal(size=(n_grid, 3)),
        "dipole": rng.normal(size=3),
        "dipole_magnitude": abs(rng.normal()),
        "quadrupole": rng.normal(size=(3, 3)),
    }
    return {name: value for name, value in full.items() if name not in without}


@st.composite
def molecule_lists(draw):
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    sizes = draw(st.lists(st.tuples(st.integers(1, 9), st.integers(1, 30)), min_size=1, max_size=6))
    return [molecule(rng, A, G, without=draw(st.sets(st.sampled_from(OPTIONAL)))) for A, G in sizes]


@settings(max_examples=50, deadline=None)
@given(molecules=molecule_lists(), extra=st.integers(0, 3))
def test_a_batch_holds_what_went_in_and_zeros_elsewhere(molecules, extra):
    smallest = make_batch(molecules).shape
    batch = make_batch(molecules, BatchShape(*(size + extra for size in smallest)))
    for name, array in batch._asdict().items():
        assert not np.isnan(array).any(), name
    B = len(molecules)
    assert batch.molecule_mask.tolist() == [True] * B + [False] * extra
    assert batch.molecule_index.tolist() == [*range(B), *[-1] * extra]
    for i, given_ in enumerate(molecules):
        A, G = len(given_["atomic_numbers"]), len(given_["vdw_surface"])
        assert batch.atom_mask[i].sum() == A
        assert batch.grid_mask[i].sum() == G
        for name, value in given_.items():
            row = getattr(batch, name)[i]
            inside = tuple(slice(size) for size in np.shape(value))
            np.testing.assert_array_equal(row[inside], np.asarray(value, np.float32))
            assert np.count_nonzero(row) == np.count_nonzero(value)
        for name in OPTIONAL:
            assert getattr(batch, f"has_{name}")[i] == (name in given_)
            if name not in given_:
                assert not getattr(batch, name)[i].any()
    for name in OPTIONAL:
        assert not getattr(batch, f"has_{name}")[B:].any()


@given(molecules=molecule_lists())
@settings(max_examples=20, deadline=None)
def test_pairs_stay_within_their_molecule(molecules):
    batch = make_batch(molecules, cutoff=6.0)
    A = batch.shape.atoms
    dst, src = batch.pair_dst[batch.pair_mask], batch.pair_src[batch.pair_mask]
    np.testing.assert_array_equal(dst // A, src // A)
    atoms = batch.atom_mask.reshape(-1)
    assert atoms[dst].all()
    assert atoms[src].all()
    assert (np.diff(batch.pair_dst) >= 0).all()


def test_nan_is_a_missing_value():
    rng = np.random.default_rng(0)
    hurt = molecule(rng, 3, 5)
    hurt |= {"total_charge": np.nan, "dipole": np.full(3, np.nan), "esp": np.full(5, np.nan)}
    hurt["monopoles"][1] = np.nan  # one lacking atom leaves nothing to train on
    batch = make_batch([hurt])
    for name in ("total_charge", "dipole", "esp", "monopoles"):
        assert not getattr(batch, f"has_{name}")[0], name
        assert not getattr(batch, name).any(), name
    assert batch.grid_mask.all()
    assert batch.has_quadrupole[0]


def test_without_a_grid_there_are_no_points():
    batch = make_batch([{"atomic_numbers": [8, 1, 1], "positions": np.eye(3)}])
    assert batch.esp.shape == batch.grid_mask.shape == (1, 0)
    assert batch.vdw_surface.shape == (1, 0, 3)
    assert not batch.has_esp.any()


def test_an_esp_without_its_grid_cannot_be_used():
    rng = np.random.default_rng(2)
    batch = make_batch([molecule(rng, 2, 4, without=("vdw_surface",)), molecule(rng, 3, 4)])
    assert batch.grid_mask.sum(axis=1).tolist() == [0, 4]
    assert batch.has_esp.tolist() == [False, True]
    assert not batch.esp[0].any()


def test_all_problems_are_told_at_once():
    with pytest.raises(SourceError) as caught:
        make_batch(
            [
                {"atomic_numbers": [1, 0], "positions": np.zeros((3, 3)), "mono": [0.0]},
                {"positions": [[np.nan, 0, 0]]},
            ]
        )
    places = [problem.place for problem in caught.value.problems]
    assert places.count("molecule 0, mono") == 1
    assert places.count("molecule 0, positions") == 1
    assert places.count("molecule 0, atomic_numbers") == 1
    assert "molecule 1, atomic_numbers" in places


@pytest.mark.parametrize("field", range(4))
def test_a_shape_too_small_is_refused(field):
    rng = np.random.default_rng(1)
    molecules = [molecule(rng, 5, 7), molecule(rng, 4, 6)]
    sizes = list(make_batch(molecules).shape)
    sizes[field] -= 1
    with pytest.raises(ConfigError, match="smaller than the molecules"):
        make_batch(molecules, BatchShape(*sizes))


@pytest.mark.parametrize(
    ("atoms", "points", "named"), [(4, 7, "5 atoms"), (5, 6, "7 grid points"), (5, 7, None)]
)
def test_gathering_never_cuts_a_molecule(atoms, points, named):
    """The loops are compiled and look at no bounds themselves."""
    fields = {"atomic_numbers": np.ones((1, 5), np.int32), "positions": np.ones((1, 5, 3), "f4")}
    fields |= {"esp": np.ones((1, 7), "f4"), "vdw_surface": np.ones((1, 7, 3), "f4")}
    sizes = np.int32([[0], [5], [7]])
    buffer = MoleculeBuffer(*sizes, fields=fields, present=settle_missing(fields, 1))
    shape = BatchShape(1, atoms, points, 99)
    with pytest.raises(ValueError, match=named) if named else nullcontext():
        gather(buffer, np.array([0]), shape, 4.0)
