"""Programs that are kept: what the network is, whatever the sizes, and traced once only."""

import functools
import hashlib

import jax
import numpy as np
import pytest

from dcmnet import load_model
from dcmnet.model import create_model, program, tracing
from dcmnet.model.initialization import initial_parameters, parameter_shapes
from dcmnet.model.program import charges_program
from pipeline.loader import make_batch
from tests.kept_programs import forgotten, never, second_start
from tests.molecules import SmallNetwork, random_molecule

SIZES = ([1], [5, 2, 9], [3, 3])


def batch_of(n_atoms, seed=0):
    rng = np.random.default_rng(seed)
    molecules = [random_molecule(rng, n, 8) for n in n_atoms]
    return make_batch([{**each, "total_charge": 1.0} for each in molecules])


@pytest.mark.parametrize("charge_sharing", ["equal", "softness"])
@pytest.mark.parametrize("sizes", SIZES)
def test_a_program_is_the_network(charge_sharing, sizes):
    small = SmallNetwork.make(seed=3, max_degree=2, charge_sharing=charge_sharing)
    batch = batch_of(sizes)
    charges, positions = charges_program(small.config, small.params)(small.params, batch)
    expected, where = small(batch)
    np.testing.assert_allclose(charges, expected, atol=2e-5)
    np.testing.assert_allclose(positions, where, atol=2e-5)


def test_a_program_is_traced_once(kept, monkeypatch):
    small, batch = SmallNetwork.make(seed=1), batch_of([4, 2])
    first = charges_program(small.config, small.params)(small.params, batch)
    assert len(list(kept.iterdir())) == 2  # its charges, and its parameters
    forgotten()
    monkeypatch.setattr(program, "of_molecules", never)
    second = charges_program(small.config, small.params)(small.params, batch)
    for before, after in zip(first, second, strict=True):
        np.testing.assert_array_equal(before, after)


DAMAGES = (lambda c: c[: len(c) // 2], lambda c: c[:-1] + b"x", lambda c: b"")


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_program_is_traced_anew(kept, damage):
    small = SmallNetwork.make()
    charges_program(small.config, small.params)
    for path in kept.iterdir():
        path.write_bytes(damage(path.read_bytes()))
    forgotten()
    charges, _ = charges_program(small.config, small.params)(small.params, batch_of([3]))
    assert np.isfinite(charges).all()
    whole = [path.read_bytes() for path in kept.iterdir()]
    assert any(content[:32] == hashlib.sha256(content[32:]).digest() for content in whole)


def test_another_network_or_another_version_is_another_program(kept, monkeypatch):
    small, other = SmallNetwork.make(), SmallNetwork.make(n_dcm=3)
    charges_program(small.config, small.params)
    charges_program(other.config, other.params)
    assert len(list(kept.iterdir())) == 4
    forgotten()
    monkeypatch.setattr(tracing, "version", lambda package: "0.0")
    charges_program(small.config, small.params)
    assert len(list(kept.iterdir())) == 5


def test_without_a_cache_programs_are_traced(kept):
    jax.config.update("jax_compilation_cache_dir", "gs://bucket/cache")
    assert tracing._place("any") is None
    jax.config.update("jax_compilation_cache_dir", None)
    small = SmallNetwork.make()
    charges, _ = charges_program(small.config, small.params)(small.params, batch_of([3]))
    assert np.isfinite(charges).all()
    assert not kept.exists()


def test_a_cache_that_cannot_be_written_costs_a_trace_only(kept):
    kept.write_text("a file where the folder should be")
    small = SmallNetwork.make()
    charges, _ = charges_program(small.config, small.params)(small.params, batch_of([3]))
    assert np.isfinite(charges).all()


def of_flax(config, seed):
    hydrogen = make_batch([{"atomic_numbers": [1, 1], "positions": [[0, 0, 0], [0, 0, 0.74]]}])
    return jax.jit(create_model(config).init)(jax.random.key(seed), hydrogen)


def test_parameters_have_the_shapes_of_the_network(kept):
    small = SmallNetwork.make(max_degree=2, charge_sharing="softness")
    expected = jax.eval_shape(lambda: of_flax(small.config, 0))
    for shapes in (parameter_shapes(small.config), small.params):
        assert jax.tree.structure(shapes) == jax.tree.structure(expected)
        assert jax.tree.all(
            jax.tree.map(lambda a, b: (a.shape, a.dtype) == (b.shape, b.dtype), shapes, expected)
        )


def test_a_kept_initialization_gives_the_parameters_of_flax(kept, monkeypatch):
    config = SmallNetwork.make(max_degree=2, charge_sharing="softness").config
    first, expected = initial_parameters(config, 7), of_flax(config, 7)
    monkeypatch.setattr(jax.export, "export", never)
    jax.tree.map(np.testing.assert_array_equal, initial_parameters(config, 7), first)
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-6), first, expected)


def test_a_second_start_needs_neither_flax_nor_e3x():
    numbers, positions = [8, 1, 1], [[0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]]
    charges, _ = load_model("dcm2").predict(numbers, positions)
    imported, again = second_start(
        "from dcmnet import load_model\n"
        f"found = load_model('dcm2').predict({numbers}, {positions})[0].tolist()"
    )
    assert imported == []
    np.testing.assert_array_equal(charges, again)
