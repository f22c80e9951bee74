"""Programs that are kept: what the network is, whatever the sizes, and traced once only."""

import hashlib
import json
import subprocess
import sys

import jax
import numpy as np
import pytest

from dcmnet.model import program
from dcmnet.model.program import charges_program, shapes_of_parameters
from pipeline.loader import make_batch
from tests.molecules import SmallNetwork, random_molecule

SIZES = ([1], [5, 2, 9], [3, 3])


def batch_of(n_atoms, seed=0):
    rng = np.random.default_rng(seed)
    molecules = [random_molecule(rng, n, 8) for n in n_atoms]
    return make_batch([{**each, "total_charge": 1.0} for each in molecules])


def forgotten():
    """Leaves what is on disk."""
    program._program.cache_clear()


@pytest.fixture
def kept(tmp_path):
    """A folder of programs in which there is none, and nothing in memory."""
    before = jax.config.values["jax_compilation_cache_dir"]
    jax.config.update("jax_compilation_cache_dir", str(tmp_path))
    forgotten()
    yield tmp_path / "programs"
    jax.config.update("jax_compilation_cache_dir", before)
    forgotten()


def never(*_):
    raise AssertionError("a network was traced though its program was kept")


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
    assert len(list(kept.iterdir())) == 1
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
    (path,) = kept.iterdir()
    path.write_bytes(damage(path.read_bytes()))
    forgotten()
    charges, _ = charges_program(small.config, small.params)(small.params, batch_of([3]))
    assert np.isfinite(charges).all()
    content = path.read_bytes()
    assert content[:32] == hashlib.sha256(content[32:]).digest()


def test_another_network_or_another_version_is_another_program(kept, monkeypatch):
    small, other = SmallNetwork.make(), SmallNetwork.make(n_dcm=3)
    charges_program(small.config, small.params)
    charges_program(other.config, other.params)
    assert len(list(kept.iterdir())) == 2
    forgotten()
    monkeypatch.setattr(program, "version", lambda package: "0.0")
    charges_program(small.config, small.params)
    assert len(list(kept.iterdir())) == 3


def test_without_a_cache_programs_are_traced(kept):
    small = SmallNetwork.make()
    jax.config.update("jax_compilation_cache_dir", "gs://bucket/cache")
    assert program._place(small.config) is None
    jax.config.update("jax_compilation_cache_dir", None)
    charges, _ = charges_program(small.config, small.params)(small.params, batch_of([3]))
    assert np.isfinite(charges).all()
    assert not kept.exists()


def test_a_cache_that_cannot_be_written_costs_a_trace_only(kept):
    kept.write_text("a file where the folder should be")
    small = SmallNetwork.make()
    charges, _ = charges_program(small.config, small.params)(small.params, batch_of([3]))
    assert np.isfinite(charges).all()


@pytest.mark.parametrize("is_kept", [False, True])
def test_parameters_have_the_shapes_of_the_network(kept, is_kept):
    small = SmallNetwork.make(max_degree=2, charge_sharing="softness")
    if is_kept:
        charges_program(small.config, small.params)
    shapes = shapes_of_parameters(small.config)
    assert kept.exists() == is_kept
    assert jax.tree.structure(shapes) == jax.tree.structure(small.params)
    assert jax.tree.all(
        jax.tree.map(lambda a, b: (a.shape, a.dtype) == (b.shape, b.dtype), shapes, small.params)
    )


KNOWN = """
import json, sys
from dcmnet import load_model
charges, _ = load_model("dcm2").predict([8, 1, 1], [[0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]])
print(json.dumps([sorted({"e3x", "flax", "sympy"} & set(sys.modules)), charges.tolist()]))
"""


def test_a_second_start_needs_neither_flax_nor_e3x(tmp_path, monkeypatch):
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path))
    started = [
        subprocess.run([sys.executable, "-c", KNOWN], capture_output=True, check=True, text=True)
        for _ in range(2)
    ]
    (first, charges), (second, again) = (json.loads(each.stdout) for each in started)
    assert first == ["e3x", "flax", "sympy"]
    assert second == []
    assert charges == again
