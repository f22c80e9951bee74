"""Two processes on loopback: the run of one, also when they are stopped, killed, or become one."""

import signal

import jax
import numpy as np
import pytest

from dcmnet import load_model, run_training
from dcmnet.config import load_config
from dcmnet.training.molecules import make_data
from tests.dcmnet.training.process_case import (
    FIELDS,
    launching,
    lines_of,
    resume_command,
    train_command,
)
from tests.experiments import metrics

pytestmark = pytest.mark.distributed
LOST, STOPPED = 69, 75


@pytest.fixture
def launch(tmp_path, pytestconfig):
    with launching(tmp_path, pytestconfig.cache.mkdir("xla")) as launcher:
        yield launcher


@pytest.fixture(scope="module")
def one(sample_store, tmp_path_factory):
    """The run of a single process."""
    out = tmp_path_factory.mktemp("one")
    return run_training("trial", sample_store, out=str(out), **FIELDS)[2]


def assert_as_one(directory, one):
    for found, expected in zip(metrics(directory), metrics(one), strict=True):
        assert found["updates"] == expected["updates"]
        for part in ("train", "valid"):
            assert found[part] == pytest.approx(expected[part], rel=1e-5, abs=1e-5)
    found, expected = (load_model(run, "latest").params for run in (directory, one))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=1e-5), found, expected)


def progressed(directory, epochs):
    """Waits for so many more epochs."""
    aim = lines_of(directory) + epochs
    return lambda: lines_of(directory) >= aim


def test_two_processes_train_what_one_does(one, sample_store, tmp_path, launch):
    data, _ = make_data(load_config(one / "config.json"))
    assert next(data.train).shape.molecules % 2, "the shares of a batch are unequal"
    directory = tmp_path / "trial"
    group = launch(train_command(sample_store, directory))
    assert group.codes() == [0, 0], group.said()
    assert_as_one(directory, one)
    told, silent = group.said()
    assert "epoch 12/12" in told
    assert "best validation" in told
    assert "epoch" not in silent
    for record in metrics(directory):
        assert record["padding_waste"] == metrics(one)[0]["padding_waste"]


def test_sigterm_stops_all_and_another_number_of_processes_goes_on(
    one, sample_store, tmp_path, launch
):
    """Of two processes one gets the signal; one process goes on, then two again.

    Slurm signals all tasks: tests/test_deploy.py.
    """
    directory = tmp_path / "trial"
    group = launch(train_command(sample_store, directory))
    group.wait_for(progressed(directory, 1))
    group.send(signal.SIGTERM, 1)
    assert group.codes() == [STOPPED, STOPPED], group.said()
    assert "Stopped as asked" in group.said()[0]
    alone = launch(resume_command(directory), count=1)
    alone.wait_for(progressed(directory, 1))
    alone.send(signal.SIGTERM, 0)
    assert alone.codes() == [STOPPED], alone.said()
    group = launch(resume_command(directory))
    assert group.codes() == [0, 0], group.said()
    assert_as_one(directory, one)


@pytest.mark.parametrize("victim", [0, 1])
def test_a_killed_process_stops_the_other_which_can_be_resumed(
    victim, one, sample_store, tmp_path, launch
):
    directory = tmp_path / "trial"
    group = launch(train_command(sample_store, directory))
    group.wait_for(progressed(directory, 2))
    group.send(signal.SIGKILL, victim)
    codes = group.codes(patience=120)
    assert codes[victim] == -signal.SIGKILL
    assert codes[1 - victim] == LOST, group.said()
    (line,) = group.errors()[1 - victim]
    assert "another process" in line
    assert "dcmnet resume" in line
    assert "Traceback" not in group.said()[1 - victim]
    assert "stack trace" not in group.said()[1 - victim]
    group = launch(resume_command(directory))
    assert group.codes() == [0, 0], group.said()
    assert_as_one(directory, one)


def test_what_one_process_refuses_all_refuse(one, sample_store, tmp_path, launch):
    group = launch(train_command(tmp_path / "none.zarr", tmp_path / "trial"))
    assert group.codes() == [1, 1]
    assert "none.zarr" in group.errors()[0][0]
    assert not (tmp_path / "trial").exists()
    group = launch(train_command(sample_store, one))
    assert group.codes() == [1, 1]
    assert "of this name already" in group.errors()[0][0]
    other = train_command(sample_store, tmp_path / "trial", learning_rate=0.5)
    group = launch([train_command(sample_store, tmp_path / "trial"), other])
    assert group.codes() == [1, 1]
    assert "not that of process 0" in group.errors()[0][0]


def test_a_run_that_others_work_on_is_refused(sample_store, tmp_path, launch):
    directory = tmp_path / "trial"
    group = launch(train_command(sample_store, directory, num_epochs=400))
    group.wait_for(progressed(directory, 1))
    others = launch(resume_command(directory))
    assert others.codes() == [1, 1]
    assert "another process is writing here" in others.errors()[0][0]
    assert [process.poll() for process in group.processes] == [None, None]


@pytest.mark.parametrize("missing", [0, 1])
def test_processes_that_never_come_are_not_waited_for_for_ever(
    missing, sample_store, tmp_path, launch
):
    words = train_command(sample_store, tmp_path / "trial")
    commands = [words, None] if missing else [None, words]
    group = launch(commands, DCMNET_CONNECT_SECONDS="3")
    assert group.codes() == [1]
    (line,) = group.errors()[1 - missing]
    assert "not all processes met at 127.0.0.1" in line
