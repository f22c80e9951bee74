"""Learning-rate schedules at their ends, and clipping before Adam."""

import jax.numpy as jnp
import numpy as np
import optax
import pytest

from dcmnet.config import TrainingConfig
from dcmnet.training.optimizer import make_optimizer, make_schedule

UPDATES = 20  # an epoch
EPOCHS = 10


def schedule(**fields):
    config = TrainingConfig(num_epochs=EPOCHS, learning_rate=2e-3, **fields)
    return make_schedule(config, UPDATES)


def rates(**fields):
    found = schedule(**fields)
    return np.array([float(found(i)) for i in range(EPOCHS * UPDATES + 1)])


@pytest.mark.parametrize("kind", ["cosine", "exponential", "step"])
def test_decay_starts_at_the_peak_and_ends_at_the_floor(kind):
    found = rates(lr_schedule_type=kind, min_lr_factor=0.05)
    assert found[0] == pytest.approx(2e-3, rel=1e-5)
    assert found[-1] == pytest.approx(2e-3 * 0.05, rel=1e-4)
    assert (np.diff(found) <= 1e-9).all()


@pytest.mark.parametrize("kind", ["cosine", "exponential", "step"])
@pytest.mark.parametrize("updates", [1, 2, 3])
def test_decay_of_a_handful_of_updates_ends_at_the_floor(kind, updates):
    config = TrainingConfig(
        num_epochs=updates, learning_rate=1.0, lr_schedule_type=kind, min_lr_factor=0.1
    )
    found = make_schedule(config, 1)
    assert float(found(updates)) == pytest.approx(0.1, rel=1e-4)
    assert float(found(0)) == pytest.approx(1.0, rel=1e-4)


@pytest.mark.parametrize("kind", ["constant", "cosine", "exponential", "step"])
def test_warmup_rises_linearly_to_the_peak(kind):
    found = rates(lr_schedule_type=kind, warmup_epochs=2, min_lr_factor=0.05)
    warmup = 2 * UPDATES
    np.testing.assert_allclose(found[: warmup + 1], np.linspace(0, 2e-3, warmup + 1), rtol=1e-5)
    floor = 1.0 if kind == "constant" else 0.05
    assert found[-1] == pytest.approx(2e-3 * floor, rel=1e-4)


def test_cosine_is_a_half_cosine():
    found = rates(lr_schedule_type="cosine", min_lr_factor=0.0)
    phase = np.pi * np.arange(EPOCHS * UPDATES + 1) / (EPOCHS * UPDATES)
    np.testing.assert_allclose(found, 2e-3 * 0.5 * (1 + np.cos(phase)), rtol=1e-4, atol=1e-9)


def test_without_a_schedule_the_rate_is_constant():
    np.testing.assert_allclose(rates(use_lr_schedule=False, min_lr_factor=0.0), 2e-3, rtol=1e-6)


@pytest.mark.parametrize("clip", [True, False])
@pytest.mark.parametrize(("kind", "rule"), [("adam", optax.adam), ("muon", optax.nadam)])
def test_gradients_are_clipped_by_their_global_norm(kind, rule, clip):
    """Adam hides the scale of one gradient, not the ratio of two: so there are two updates."""
    config = TrainingConfig(
        optimizer=kind, use_grad_clip=clip, grad_clip_norm=2.0, use_lr_schedule=False
    )
    params = {"a": jnp.zeros(2), "b": jnp.zeros(1)}
    small = {"a": jnp.array([0.3, 0.1]), "b": jnp.array([0.2])}
    large = {"a": jnp.array([30.0, 0.0]), "b": jnp.array([40.0])}
    clipped = {"a": jnp.array([1.2, 0.0]), "b": jnp.array([1.6])}
    optimizer, adam = make_optimizer(config, config.learning_rate), rule(config.learning_rate)
    state, adam_state = optimizer.init(params), adam.init(params)
    for given, seen in ((small, small), (large, clipped if clip else large)):
        found, state = optimizer.update(given, state, params)
        expected, adam_state = adam.update(seen, adam_state, params)
    for name in params:
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-5, atol=1e-10)


@pytest.mark.parametrize("shape", [(6, 6), (4, 9), (9, 4)])
def test_muon_moves_a_matrix_by_an_orthogonal_step_of_adams_size(rng, shape):
    config = TrainingConfig(optimizer="muon", learning_rate=1e-2, use_lr_schedule=False)
    optimizer = make_optimizer(config, config.learning_rate)
    gradient = {"matrix": jnp.asarray(rng.normal(size=shape), jnp.float32)}
    step, _ = optimizer.update(gradient, optimizer.init(gradient), gradient)
    left, sizes, right = np.linalg.svd(gradient["matrix"], full_matrices=False)
    turned = left.T @ np.asarray(step["matrix"]) @ right.T
    # Five iterations of Newton and Schulz bring singular values near one, not to it.
    of_one = -1e-2 * 0.7 * np.sqrt(max(shape))
    np.testing.assert_allclose(np.diag(turned), of_one, rtol=0.35)
    assert np.ptp(sizes) > np.mean(sizes) / 2
    np.testing.assert_allclose(turned - np.diag(np.diag(turned)), 0, atol=1e-3)


def test_matrices_moved_together_go_where_each_would_go_alone(rng):
    config = TrainingConfig(optimizer="muon", use_grad_clip=False, use_lr_schedule=False)
    shapes = {"a": (4, 3), "b": (5,), "c": (4, 3), "d": (2, 2, 2), "e": (3, 4), "f": ()}
    params = {name: jnp.asarray(rng.normal(size=n), jnp.float32) for name, n in shapes.items()}
    together = make_optimizer(config, config.learning_rate)
    alone = optax.contrib.muon(config.learning_rate, consistent_rms=0.7)
    state, state_alone = together.init(params), alone.init(params)
    for sign in (1.0, -0.3):
        gradient = {name: sign * part + 0.1 for name, part in params.items()}
        found, state = together.update(gradient, state, params)
        expected, state_alone = alone.update(gradient, state_alone, params)
    for name in shapes:
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("kind", ["adam", "muon"])
def test_weight_decay_shrinks_every_parameter_apart_from_its_gradient(kind):
    config = TrainingConfig(
        optimizer=kind, learning_rate=0.01, weight_decay=0.5, use_lr_schedule=False
    )
    params = {"matrix": jnp.array([[1.0, -2.0], [3.0, 4.0]]), "bias": jnp.array([5.0, -6.0])}
    gradients = {"matrix": jnp.array([[0.1, 0.2], [0.0, 0.3]]), "bias": jnp.array([0.1, 0.2])}

    def changes(config):
        optimizer = make_optimizer(config, config.learning_rate)
        return optimizer.update(gradients, optimizer.init(params), params)[0]

    found = changes(config)
    without = changes(config.model_copy(update={"weight_decay": 0.0}))
    for name, values in params.items():
        np.testing.assert_allclose(
            found[name], without[name] - 0.005 * values, rtol=1e-5, atol=1e-8
        )
