"""Checkpoints: bit for bit what was saved, refused by name when they do not fit."""

import jax
import numpy as np
import pytest

from dcmnet.config import TrainingConfig
from dcmnet.experiment.checkpoints import Checkpoints
from dcmnet.experiment.state import Progress
from store_schema.problems import CheckpointError
from tests.dcmnet.training.training_case import batch_of, make_case, molecules, new_state

PROGRESS = Progress(epoch=3, best=0.1 + 0.2, best_epoch=2, iterator={"place": 17})


@pytest.fixture(scope="module")
def trained():
    """A state after two updates, and one of the same shapes to restore into."""
    model, optimizer, steps = make_case()
    state = new_state(model, optimizer)
    for seed in range(2):
        state, _ = steps.train(state, batch_of(molecules(6, seed)))
    return jax.device_get(state), new_state(model, optimizer)


@pytest.fixture
def saved(trained, tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save("latest", 2, trained[0], PROGRESS)
        checkpoints.save("best", 2, trained[0], PROGRESS)
        checkpoints.save("periodic", 1, trained[0], PROGRESS)
    return tmp_path


def assert_identical(found, expected):
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    jax.tree.map(np.testing.assert_array_equal, found, expected)


def test_a_state_comes_back_bit_for_bit(saved, trained):
    """The trap of a resume that resets the moving average or the best value."""
    state, like = trained
    with Checkpoints(saved) as checkpoints:
        found, progress = checkpoints.restore(like)
    assert_identical(jax.device_get(found), state)
    assert progress == PROGRESS
    assert int(found.updates) == 2


def test_the_moments_of_muon_come_back_bit_for_bit(tmp_path, rng):
    """Some of its arrays stand for parameters that Adam moves: they are empty."""
    model, optimizer, _ = make_case(TrainingConfig(optimizer="muon"))
    like = new_state(model, optimizer)
    state = jax.tree.map(
        lambda part: part + rng.integers(1, 9, part.shape).astype(part.dtype), like
    )
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save("latest", 2, state, PROGRESS)
        found, _ = checkpoints.restore(like)
    assert_identical(jax.device_get(found), jax.device_get(state))


@pytest.mark.parametrize("which", ["best", "latest", "epoch_1"])
def test_a_model_is_its_moving_average(saved, trained, which):
    state, like = trained
    with Checkpoints(saved, read_only=True) as checkpoints:
        params, progress = checkpoints.restore_model(which, like.params)
        assert checkpoints.names() == ["best", "latest", "epoch_1"]
    assert_identical(jax.device_get(params), state.ema_params)
    assert progress.epoch == 3


def test_only_the_latest_holds_what_a_resumed_run_needs(saved):
    """The moments of the optimizer are most of what there is to write."""
    holding = {path.parent.name for path in saved.rglob("training")}
    assert holding == {"update_2"}


def test_latest_and_best_keep_their_newest_and_periodic_all(saved, trained):
    state, like = trained
    newer = PROGRESS.model_copy(update={"epoch": 4})
    with Checkpoints(saved) as checkpoints:
        for series, step in (("latest", 5), ("best", 4), ("periodic", 4)):
            checkpoints.save(series, step, state, newer)
        checkpoints.wait()
        assert checkpoints.names() == ["best", "latest", "epoch_1", "epoch_4"]
        assert checkpoints.restore(like)[1] == newer
        assert checkpoints.restore_model("best", like.params)[1] == newer
        assert checkpoints.restore_model("epoch_1", like.params)[1] == PROGRESS
    assert [path.name for path in (saved / "latest").iterdir() if path.is_dir()] == ["update_5"]


@pytest.mark.parametrize("which", ["epoch_9", "bset", "epoch_-1", ""])
def test_what_is_not_there_is_refused_with_what_is(saved, trained, which):
    with (
        Checkpoints(saved) as checkpoints,
        pytest.raises(CheckpointError, match="best, latest, epoch_1"),
    ):
        checkpoints.restore_model(which, trained[1].params)


def test_an_empty_directory_says_that_there_is_none(tmp_path, trained):
    with Checkpoints(tmp_path) as checkpoints, pytest.raises(CheckpointError, match="no checkpo"):
        checkpoints.restore(trained[1])


@pytest.mark.parametrize("fields", [{"features": 5}, {"n_dcm": 3}, {"max_degree": 2}])
def test_a_checkpoint_of_another_model_is_refused(saved, fields):
    """Same names, other shapes: nothing may be cut or filled up silently."""
    model, optimizer, _ = make_case(**fields)
    other = new_state(model, optimizer)
    with Checkpoints(saved) as checkpoints:
        with pytest.raises(CheckpointError):
            checkpoints.restore(other)
        with pytest.raises(CheckpointError):
            checkpoints.restore_model("best", other.params)


def test_a_checkpoint_of_another_architecture_is_refused(saved):
    model, _, _ = make_case()
    other = {"params": {**model.params["params"], "extra": {"kernel": np.zeros(3, np.float32)}}}
    with Checkpoints(saved) as checkpoints, pytest.raises(CheckpointError):
        checkpoints.restore_model("best", other)


@pytest.mark.parametrize("damage", ["removed", "truncated"])
def test_a_damaged_checkpoint_is_refused(saved, trained, damage):
    files = [path for path in (saved / "latest").rglob("d/*") if path.is_file()]
    assert files
    for path in files:
        if damage == "removed":
            path.unlink()
        else:
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with Checkpoints(saved) as checkpoints, pytest.raises(CheckpointError, match="latest"):
        checkpoints.restore(trained[1])


def test_what_a_kill_left_half_done_is_cleared_away(saved, trained, caplog):
    """Half of a checkpoint being written, and half of one being removed."""
    state, like = trained
    with Checkpoints(saved) as checkpoints:
        checkpoints.save("best", 3, state, PROGRESS)
    half_written = saved / "latest" / "update_7.orbax-checkpoint-tmp" / "model"
    half_removed = saved / "best" / "epoch_1" / "model"
    for folder in (half_written, half_removed):
        folder.mkdir(parents=True)
    with Checkpoints(saved) as checkpoints:
        assert checkpoints.names() == ["best", "latest", "epoch_1"]
        assert_identical(jax.device_get(checkpoints.restore(like)[0]), state)
        checkpoints.save("latest", 7, like, PROGRESS)
        checkpoints.wait()
        assert not half_written.exists()
        assert not half_removed.exists()
        # The best but one is that of the latest checkpoint until the next of those is whole.
        assert sorted(path.name for path in (saved / "best").iterdir()) == ["epoch_2", "epoch_3"]
    assert not [entry for entry in caplog.records if entry.levelname == "WARNING"]
