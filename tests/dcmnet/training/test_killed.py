"""Runs killed with SIGKILL at any moment: resumed, they end where one never killed ends."""

import os
import subprocess
import sys
import time
from functools import partial
from itertools import cycle

import jax
import numpy as np
import pytest

from dcmnet import load_model
from tests.dcmnet.tracking.test_tensorboard import assert_every_metric_once
from tests.experiments import SETTINGS, metrics

PATIENCE = 600.0


def command(store, directory, fields):
    """What a user does: `resume`, or starting again where the kill came before there was a run."""
    if (directory / "config.json").exists():
        return [sys.executable, "-m", "dcmnet.cli", "resume", str(directory)]
    given = {**fields, "name": directory.name, "out": directory.parent, "store": store}
    options = [word for key, value in given.items() for word in (f"--{key}", str(value))]
    return [sys.executable, "-m", "dcmnet.train_runner", *options]


def launched(directory, store, fields, cache):
    environment = {**os.environ, "JAX_COMPILATION_CACHE_DIR": str(cache)}
    with (directory.parent / "log.txt").open("a") as log:
        return subprocess.Popen(
            command(store, directory, fields), env=environment, stdout=log, stderr=log
        )


def is_writing(directory):
    # Unlike a glob, a walk passes over folders that vanish meanwhile.
    folders = (names for _, names, _ in os.walk(directory / "checkpoints"))
    return any("orbax-checkpoint-tmp" in name for names in folders for name in names)


def lines_of(directory):
    path = directory / "metrics.jsonl"
    return path.read_text().count("\n") if path.exists() else 0


def wait_until(happened, process):
    """Waits for something, closely: what is being written is there for milliseconds."""
    end = time.monotonic() + PATIENCE
    while not happened() and process.poll() is None:
        assert time.monotonic() < end
        time.sleep(0.0005)


def while_writing(directory, process, rng):
    wait_until(lambda: is_writing(directory), process)
    time.sleep(rng.uniform(0.0, 0.02))


def while_training(directory, process, rng):
    before = lines_of(directory)
    wait_until(lambda: lines_of(directory) > before, process)
    time.sleep(rng.uniform(0.0, 0.6))


def at_any_moment(directory, process, rng):
    end = time.monotonic() + rng.uniform(0.0, 8.0)
    wait_until(lambda: time.monotonic() > end, process)


def killed_run(launch, directory, kills, moments, rng):
    """Kills a run so many times, then lets it end; returns how often it was killed in fact."""
    killed = 0
    for moment in moments:
        process = launch(directory)
        try:
            if killed < kills:
                moment(directory, process, rng)
        finally:
            if killed < kills:
                process.kill()
        code = process.wait(PATIENCE)
        killed += code < 0
        if code >= 0:
            assert code == 0, (directory.parent / "log.txt").read_text()
            return killed
    raise AssertionError("the run never ended")


def assert_as_never_killed(directory, expected, checkpoints):
    assert metrics(directory) == metrics(expected)
    assert_every_metric_once(directory)
    for checkpoint in checkpoints:
        found, model = load_model(directory, checkpoint), load_model(expected, checkpoint)
        assert found.epoch == model.epoch
        jax.tree.map(np.testing.assert_array_equal, found.params, model.params)


@pytest.mark.slow
def test_a_run_killed_twice_ends_as_one_never_killed(
    trained, sample_store, tmp_path, pytestconfig, rng
):
    directory, cache = tmp_path / "trial", pytestconfig.cache.mkdir("xla")
    launch = partial(launched, store=sample_store, fields=SETTINGS, cache=cache)
    moments = [while_writing, while_training, None]
    assert killed_run(launch, directory, 2, moments, rng) == 2
    assert_as_never_killed(directory, trained[2], ("best", "latest", "epoch_2"))


@pytest.mark.slow
def test_a_run_killed_many_times_ends_as_one_never_killed(sample_store, tmp_path, pytestconfig):
    rng = np.random.default_rng()  # other moments each time
    many = {"num_epochs": 200, "save_every_n_epochs": 7, "gradient_accumulation_steps": 2}
    cache = pytestconfig.cache.mkdir("xla")
    launch = partial(launched, store=sample_store, fields={**SETTINGS, **many}, cache=cache)
    expected, directory = tmp_path / "never" / "trial", tmp_path / "killed" / "trial"
    for folder in (expected, directory):
        folder.parent.mkdir()
    assert killed_run(launch, expected, 0, [None], rng) == 0
    moments = cycle([while_writing, while_training, at_any_moment])
    assert killed_run(launch, directory, 15, moments, rng) >= 10
    assert_as_never_killed(directory, expected, ("best", "latest", "epoch_7", "epoch_28"))
