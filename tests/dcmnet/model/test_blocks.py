"""Blocks change nothing, and neither does a card, which takes everything at once."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dcmnet.config import ModelConfig
from dcmnet.model import blocks, create_model, distributed_charges
from dcmnet.model.blocks import block_size, from_blocks, to_blocks
from dcmnet.model.electrostatics import esp
from dcmnet.model.observables import observe
from pipeline.loader import make_batch
from tests.molecules import random_molecule, random_parameters


@settings(max_examples=20)
@given(st.integers(1, 9), st.integers(1, 12), st.integers(0, 2))
def test_an_array_comes_back_from_its_blocks(length, size, axis):
    shape = [2, 3, 4]
    shape[axis] = length
    array = jnp.arange(np.prod(shape)).reshape(shape)
    cut = to_blocks(array, size, axis)
    assert cut.shape[0] == -(-length // size)
    assert cut.shape[1 + axis] == size
    np.testing.assert_array_equal(from_blocks(cut, length, axis), array)


@given(st.integers(0, 5000), st.integers(1, 700))
def test_blocks_are_as_few_as_can_be_and_hardly_padded(length, most):
    size = block_size(length, most)
    assert 1 <= size <= most
    count = -(-length // size)
    assert count == -(-length // most)
    assert count * size - length < max(count, 1)


@pytest.mark.parametrize("card", [False, True])
def test_an_exported_program_takes_any_length(monkeypatch, card):
    """The number of pairs is a symbol there."""
    monkeypatch.setattr(blocks, "all_at_once", lambda: card)
    (length,) = jax.export.symbolic_shape("P")

    def doubled(array):
        cut = to_blocks(array, block_size(array.shape[0], 4))
        return from_blocks(2 * cut, array.shape[0])

    program = jax.export.export(jax.jit(doubled))(jax.ShapeDtypeStruct((length,), np.float32))
    for count in (1, 4, 11):
        array = jnp.arange(count, dtype=jnp.float32)
        np.testing.assert_array_equal(program.call(array), 2 * array)


@pytest.fixture(scope="module")
def of_a_processor():
    return results()


def results():
    """Returns observables, gradients by parameters and by positions."""
    model = ModelConfig(features=4)
    network, params = create_model(model), random_parameters(model)
    rng = np.random.default_rng(0)
    batch = make_batch([random_molecule(rng, n, points) for n, points in ((3, 700), (8, 300))])

    def loss(params, positions):
        moved = batch._replace(positions=positions)
        found = observe(*distributed_charges(network, params, moved), moved)
        known = jnp.where(batch.grid_mask, found.esp, 0.0)
        return jnp.sum(jnp.sin(known)) + jnp.sum(found.dipole**2), found._replace(esp=known)

    arguments = params, jnp.asarray(batch.positions)
    return jax.jit(jax.grad(loss, argnums=(0, 1), has_aux=True))(*arguments)


def test_a_card_computes_what_a_processor_does(monkeypatch, of_a_processor):
    monkeypatch.setattr(blocks, "all_at_once", lambda: True)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(
            a, b, rtol=2e-4, atol=1e-5 * np.abs(b).max(initial=0.0)
        ),
        results(),
        of_a_processor,
    )


def test_a_card_takes_molecules_without_a_grid(monkeypatch):
    monkeypatch.setattr(blocks, "all_at_once", lambda: True)
    charges, positions, grid = jnp.ones((2, 3)), jnp.ones((2, 3, 3)), jnp.zeros((2, 0, 3))
    potential, back = jax.vjp(esp, charges, positions, grid)
    assert potential.shape == (2, 0)
    for gradient, operand in zip(back(potential), (charges, positions, grid), strict=True):
        np.testing.assert_array_equal(gradient, jnp.zeros_like(operand))
