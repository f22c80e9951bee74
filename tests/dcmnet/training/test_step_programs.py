"""Programs of a training that machines keep: what is traced, bit by bit, and traced once."""

import jax
import numpy as np

from dcmnet.model.tracing import by_shape
from dcmnet.training.optimizer import make_schedule
from dcmnet.training.step import make_steps
from tests.dcmnet.training.training_case import (
    CONFIG,
    UPDATES_PER_EPOCH,
    batch_of,
    make_case,
    molecules,
    new_state,
)
from tests.kept_programs import never, second_start


def updated(case, n_updates=3):
    model, optimizer, steps = case
    state, batch = new_state(model, optimizer), batch_of(molecules(5))
    for _ in range(n_updates):
        state, report = steps.train(state, batch)
    return jax.device_get((state, report, steps.evaluate(state.params, batch)))


def test_a_kept_program_updates_as_the_one_that_was_traced(kept, monkeypatch):
    first = updated(make_case())
    monkeypatch.setattr(jax.export, "export", never)
    jax.tree.map(np.testing.assert_array_equal, updated(make_case()), first)


def test_what_a_loss_does_not_depend_on_makes_no_other_program(kept):
    updated(make_case(), 1)
    before = set(kept.iterdir())
    updated(make_case(CONFIG.updated(num_epochs=7, learning_rate=0.1, seed=3)), 1)
    assert set(kept.iterdir()) == before
    for other in (CONFIG.updated(chg_w=0.5), CONFIG.updated(esp_loss="rmse")):
        updated(make_case(other), 1)
    assert len(set(kept.iterdir()) - before) == 4  # a gradient and a validation each


def test_each_shape_is_a_program_of_its_own(kept):
    model, _, steps = make_case()
    gradient = steps.no_gradient(model.params)
    before = set(kept.iterdir())
    batch = batch_of(molecules(5))
    wider = batch._replace(
        vdw_surface=np.pad(batch.vdw_surface, ((0, 0), (0, 4), (0, 0))),
        esp=np.pad(batch.esp, ((0, 0), (0, 4))),
        grid_mask=np.pad(batch.grid_mask, ((0, 0), (0, 4))),
    )
    found = [steps.accumulate(model.params, gradient, each) for each in (batch, wider, batch)]
    assert len(set(kept.iterdir()) - before) == 2
    for other in found[1:]:
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-4, atol=1e-6), other, found[0]
        )


def test_a_rate_is_not_a_part_of_the_program():
    """Or each data set, whose epochs have other numbers of updates, would compile its own."""
    model, optimizer, _ = make_case()
    gradient = None
    moved = []
    for epochs in (4, 4000):
        config = CONFIG.updated(num_epochs=epochs)
        schedule = make_schedule(config, UPDATES_PER_EPOCH)
        steps = make_steps(model.config, CONFIG, schedule)
        gradient = gradient or steps.no_gradient(model.params)
        some, _ = steps.accumulate(model.params, gradient, batch_of(molecules(5)))
        state = new_state(model, optimizer)._replace(updates=jax.numpy.asarray(190))
        state, _ = steps.update(state, some)
        change = jax.tree.map(np.subtract, state.params, model.params)
        moved.append(max(float(np.abs(leaf).max()) for leaf in jax.tree.leaves(change)))
    assert moved[1] > 10 * moved[0] > 0  # at the end of one schedule, at the start of the other


def test_jax_sees_through_a_program(kept):
    double = by_shape(lambda scale, batch: scale * batch[0], "double")
    batch = (np.arange(3.0, dtype=np.float32),)
    found = jax.jit(lambda scale: double(scale, batch))(np.float32(2.0))
    np.testing.assert_array_equal(found, [0, 2, 4])


STARTED = """
from rich.console import Console
from dcmnet import run_training
from tests.experiments import SETTINGS
_, found, _ = run_training(
    "again", sys.argv[1], out=sys.argv[2], console=Console(quiet=True), **SETTINGS
)
"""


def test_a_second_training_needs_neither_flax_nor_e3x(trained, sample_store, tmp_path):
    imported, best = second_start(STARTED, sample_store, tmp_path)
    assert imported == []
    assert best == trained[1]
