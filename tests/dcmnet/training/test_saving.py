"""When checkpoints are saved: seldom, but whatever is resumed or read is whole and the best."""

from contextlib import suppress

import jax
import numpy as np
import pytest

from dcmnet.experiment.checkpoints import Checkpoints
from dcmnet.experiment.state import Progress
from dcmnet.training import saving as module
from dcmnet.training.epoch import Trainer
from dcmnet.training.optimizer import make_schedule
from dcmnet.training.saving import Saving
from tests.dcmnet.training.training_case import (
    CONFIG,
    UPDATES_PER_EPOCH,
    batch_of,
    make_case,
    molecules,
    new_state,
)


@pytest.fixture(scope="module")
def case():
    return make_case()


@pytest.fixture
def clock(monkeypatch):
    """Seconds that pass only when a test says so."""
    now = [0.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    return now


def trainer_of(case, **fields):
    model, optimizer, steps = case
    config = CONFIG.updated(**fields)
    return Trainer(
        steps, new_state(model, optimizer), config, make_schedule(config, UPDATES_PER_EPOCH)
    )


def epochs(trainer, saving, values):
    """Trains an epoch of one update for each value; returns the parameters after each."""
    batch, best, best_epoch, after = batch_of(molecules(4)), np.inf, 0, []
    for epoch, value in enumerate(values, 1):
        trainer.state, _ = trainer.steps.train(trainer.state, batch)
        after.append(jax.device_get(trainer.state.ema_params))
        if value < best:
            best, best_epoch = value, epoch
        saving.after_epoch(Progress(epoch=epoch, best=best, best_epoch=best_epoch))
    return after


def saved(checkpoints, trainer):
    checkpoints.wait()
    found = {}
    for name in checkpoints.names():
        params, progress = checkpoints.restore_model(name, trainer.state.ema_params)
        found[name] = progress.epoch, jax.device_get(params)
    return found


def assert_equal(found, expected):
    jax.tree.map(np.testing.assert_array_equal, found, expected)


def test_quick_epochs_are_saved_together_and_the_best_of_them_is_kept(case, clock, tmp_path):
    trainer = trainer_of(case, save_every_n_epochs=0)
    with Checkpoints(tmp_path) as checkpoints:
        saving = Saving(trainer, checkpoints)
        after = epochs(trainer, saving, [5.0, 3.0, 1.0, 4.0, 2.0])
        # The first epoch alone is on disk, which a killed run resumes from.
        assert {name: epoch for name, (epoch, _) in saved(checkpoints, trainer).items()} == {
            "best": 1,
            "latest": 1,
        }
        saving.save()
        found = saved(checkpoints, trainer)
    assert {name: epoch for name, (epoch, _) in found.items()} == {"best": 3, "latest": 5}
    assert_equal(found["best"][1], after[2])
    assert_equal(found["latest"][1], after[4])


def test_an_epoch_that_ends_later_is_saved_at_once(case, clock, tmp_path):
    trainer = trainer_of(case, save_every_n_epochs=0)
    with Checkpoints(tmp_path) as checkpoints:
        saving = Saving(trainer, checkpoints)
        epochs(trainer, saving, [5.0])
        clock[0] += 60.0
        trainer.state, _ = trainer.steps.train(trainer.state, batch_of(molecules(4)))
        saving.after_epoch(Progress(epoch=2, best=4.0, best_epoch=2))
        assert {name: epoch for name, (epoch, _) in saved(checkpoints, trainer).items()} == {
            "best": 2,
            "latest": 2,
        }


def test_a_run_that_breaks_keeps_its_last_epoch_and_its_best(case, clock, tmp_path):
    trainer = trainer_of(case, save_every_n_epochs=0)
    with Checkpoints(tmp_path) as checkpoints:
        saving = Saving(trainer, checkpoints)
        with suppress(KeyboardInterrupt), saving:
            after = epochs(trainer, saving, [5.0, 3.0, 4.0])
            trainer.state, _ = trainer.steps.train(trainer.state, batch_of(molecules(4)))
            raise KeyboardInterrupt
        found = saved(checkpoints, trainer)
    assert {name: epoch for name, (epoch, _) in found.items()} == {"best": 2, "latest": 3}
    assert_equal(found["latest"][1], after[2])


def test_a_best_beyond_the_latest_gives_way_to_the_one_before(case, clock, tmp_path):
    """As of a run that was killed between the two."""
    trainer = trainer_of(case, save_every_n_epochs=0)
    with Checkpoints(tmp_path) as checkpoints:
        saving = Saving(trainer, checkpoints)
        epochs(trainer, saving, [5.0])
        checkpoints.wait()
        checkpoints.save("best", 9, trainer.state, Progress(epoch=9, best=1.0, best_epoch=9))
    with Checkpoints(tmp_path) as checkpoints:
        state, progress = checkpoints.restore(trainer.state)
        checkpoints.keep_until(progress.epoch)
        assert {name: epoch for name, (epoch, _) in saved(checkpoints, trainer).items()} == {
            "best": 1,
            "latest": 1,
        }
        checkpoints.save("best", 4, state, Progress(epoch=4, best=2.0, best_epoch=4))
        assert saved(checkpoints, trainer)["best"][0] == 4


def test_periodic_checkpoints_are_saved_however_quick_epochs_are(case, clock, tmp_path):
    trainer = trainer_of(case, save_every_n_epochs=2)
    with Checkpoints(tmp_path) as checkpoints:
        after = epochs(trainer, Saving(trainer, checkpoints), [5.0, 4.0, 3.0, 2.0, 1.0])
        found = saved(checkpoints, trainer)
    assert set(found) == {"best", "latest", "epoch_2", "epoch_4"}
    assert_equal(found["epoch_4"][1], after[3])
