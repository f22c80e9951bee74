"""The training step: sums over unequal micro-batches, gradients, the moving average."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dcmnet.training.statistics import TOTAL, Accumulator
from tests.dcmnet.training.training_case import CONFIG, batch_of, make_case, molecules, new_state


@pytest.fixture(scope="module")
def case():
    return make_case()


def assert_close(found, expected, tolerance):
    leaves = zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True)
    for a, b in leaves:
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance)


def largest(tree):
    return max(float(np.abs(leaf).max()) for leaf in jax.tree.leaves(tree))


def accumulated(steps, params, parts):
    gradient = steps.no_gradient(params)
    for part in parts:
        gradient, _ = steps.accumulate(params, gradient, batch_of(part))
    return gradient


@pytest.mark.parametrize("cuts", [(1, 3), (5,), (2, 3, 4)])
def test_micro_batches_of_unequal_size_equal_one_batch(case, cuts):
    """The mean is over molecules: a mean of means would weigh those of small batches more."""
    model, optimizer, steps = case
    some = molecules(6)
    parts = [some[a:b] for a, b in zip((0, *cuts), (*cuts, 6), strict=True)]
    gradient = accumulated(steps, model.params, parts)
    whole = accumulated(steps, model.params, [some])
    assert int(gradient.molecules) == int(whole.molecules) == 6
    assert_close(gradient.total, whole.total, 1e-6 * largest(whole.total))
    state, norm = steps.update(new_state(model, optimizer), gradient)
    expected, report = steps.train(new_state(model, optimizer), batch_of(some))
    assert_close((state.params, state.ema_params), (expected.params, expected.ema_params), 1e-6)
    assert float(norm) == pytest.approx(float(report.gradient_norm), rel=1e-5)
    assert int(state.updates) == int(expected.updates) == 1


def test_gradient_of_a_batch_is_the_sum_of_those_of_its_molecules(case):
    """The trap of only the first molecule of a batch entering the loss."""
    model, _, steps = case
    some = molecules(6, seed=3)
    whole = accumulated(steps, model.params, [some])
    singly = [accumulated(steps, model.params, [[molecule]]) for molecule in some]
    total = jax.tree.map(lambda *leaves: sum(np.asarray(leaf, float) for leaf in leaves), *singly)
    assert_close(whole.total, total.total, 1e-5 * largest(whole.total))
    assert all(largest(gradient.total) > 0 for gradient in singly)


def test_gradient_equals_finite_differences(case):
    model, _, steps = case
    batch = batch_of(molecules(6, seed=5))
    gradient, _ = steps.accumulate(model.params, steps.no_gradient(model.params), batch)
    rng = np.random.default_rng(0)
    direction = jax.tree.map(lambda leaf: rng.normal(size=leaf.shape), model.params)
    slope = sum(
        (np.asarray(g, float) * d).sum()
        for g, d in zip(jax.tree.leaves(gradient.total), jax.tree.leaves(direction), strict=True)
    )

    def loss_at(step):
        params = jax.tree.map(
            lambda p, d: jnp.asarray(p + step * d, p.dtype), model.params, direction
        )
        return float(steps.evaluate(params, batch)["loss"][TOTAL])

    step = 3e-4
    assert (loss_at(step) - loss_at(-step)) / (2 * step) == pytest.approx(slope, rel=2e-2)


def test_molecules_without_any_target_move_nothing(case):
    model, _, steps = case
    bare = [{name: m[name] for name in ("atomic_numbers", "positions")} for m in molecules(3)]
    gradient = accumulated(steps, model.params, [bare])
    assert int(gradient.molecules) == 3
    assert largest(gradient.total) == 0


def test_evaluation_sees_the_losses_that_training_reports(case):
    model, optimizer, steps = case
    batch = batch_of(molecules(5))
    _, report = steps.train(new_state(model, optimizer), batch)
    found, expected = Accumulator(), Accumulator()
    found.add([steps.evaluate(model.params, batch)])
    expected.add([report.statistics])
    assert found.metrics() == pytest.approx(expected.metrics(), rel=1e-5)


def test_no_number_changes_its_type_unasked(case):
    """Where integers met floats, x64 or another device could decide the precision.

    The update is left out: Adam, as optax has it, divides by a power of an integer.
    """
    model, _, steps = case
    batch = batch_of(molecules(5))
    gradient = steps.no_gradient(model.params)
    with jax.numpy_dtype_promotion("strict"):
        found = (
            jax.eval_shape(steps.accumulate, model.params, gradient, batch),
            jax.eval_shape(steps.evaluate, model.params, batch),
            jax.eval_shape(steps.predict, model.params, batch),
        )
    kinds = {leaf.dtype.name for leaf in jax.tree.leaves(found)}
    assert kinds == {"float32", "int32", "bool"}  # values, molecules, whether losses are finite


@pytest.mark.parametrize("use_ema", [True, False])
def test_moving_average_follows_its_recursion(use_ema):
    config = CONFIG.updated(use_ema=use_ema, ema_decay=0.3)
    model, optimizer, steps = make_case(config)
    state = new_state(model, optimizer)
    expected = jax.device_get(state.params)
    for update in range(5):
        state, _ = steps.train(state, batch_of(molecules(6, seed=update)))
        decay = min(0.3, (1 + update) / (10 + update)) if use_ema else 0.0
        params = jax.device_get(state.params)
        expected = jax.tree.map(
            lambda e, p, decay=decay: decay * e + (1 - decay) * p, expected, params
        )
        assert_close(state.ema_params, expected, 1e-6)
    assert (largest(jax.tree.map(np.subtract, params, expected)) > 1e-4) == use_ema


def test_training_learns(case):
    model, optimizer, steps = case
    state, batch = new_state(model, optimizer), batch_of(molecules(6))
    first = None
    for _ in range(60):
        state, report = steps.train(state, batch)
        first = first if first is not None else float(report.statistics["loss"][TOTAL])
    assert float(report.statistics["loss"][TOTAL]) < 0.5 * first
