"""Sweeps: pruned, killed, shared by processes; each trial is an experiment like any other."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time

import pandas as pd
import pytest
from rich.console import Console

pytest.importorskip("optuna")

from optuna.trial import TrialState

from dcmnet import load_model
from dcmnet.config import load_config
from dcmnet.experiment.directory import Experiment
from dcmnet.sweep import run_sweep
from dcmnet.sweep.space import parse_space
from dcmnet.sweep.study import open_study, slots
from store_schema.problems import ConfigError, StoreError, TrainingError
from tests.experiments import SETTINGS, metrics

pytestmark = pytest.mark.distributed
PATIENCE = 300.0
# One rate that learns, and one that does not: two compilations, whatever the seed.
RATES = [5e-3, 1e-9]
FIXED = {**SETTINGS, "num_epochs": 4, "save_every_n_epochs": 0}
del FIXED["learning_rate"]
SPACE = {
    "name": "rates",
    "trials": 5,
    "search": {
        "training.learning_rate": {"kind": "choice", "values": RATES},
        "training.seed": {"kind": "int", "low": 0, "high": 1000},
    },
    "fixed": FIXED,
    "sampler": {"kind": "random", "seed": 3},
    "heartbeat_seconds": 1,
}
WHOLE = {**SPACE, "name": "whole", "pruner": {"kind": "none"}}
# What a trial came to, whoever ran it.
RESULT = ["trial", "state", "best", "epoch", "epochs", "training.seed", "experiment"]


def sweep(space, store, **fields):
    console = Console(record=True, width=120)
    outcome = run_sweep(space, store, console=console, **fields)
    return outcome, console.export_text()


@pytest.fixture(scope="module")
def pruned(sample_store, tmp_path_factory):
    space = {**SPACE, "pruner": {"kind": "median", "startup_trials": 1}}
    return sweep(space, sample_store, out=str(tmp_path_factory.mktemp("pruned")))


def by_number(outcome):
    return outcome.trials.sort_values("trial", ignore_index=True)


def test_trials_that_do_not_learn_are_pruned_and_marked(pruned):
    trials = by_number(pruned[0])
    assert list(trials["trial"]) == list(range(5))
    ended_early = trials[trials["state"] == "pruned"]
    assert 1e-9 in set(ended_early["training.learning_rate"])
    assert trials.iloc[0]["state"] == "complete"
    assert trials.iloc[0]["training.learning_rate"] != 1e-9
    for row in trials.to_dict("records"):
        directory = pruned[0].folder / row["experiment"]
        record = json.loads((directory / "trial.json").read_text())
        assert record["state"] == {"complete": "finished"}.get(row["state"], row["state"])
        lines = metrics(directory)
        assert len(lines) == row["epochs"]
        assert (row["epochs"] < FIXED["num_epochs"]) == (row["state"] == "pruned")
        values = {line["epoch"]: line["valid"]["esp_rmse"] for line in lines}
        assert row["best"] == record["best"] == min(values.values()) == values[row["epoch"]]
        assert load_model(directory).epoch == row["epoch"], "pruned ones have checkpoints too"


def test_the_table_has_the_best_first_and_figures_are_drawn(pruned):
    outcome, text = pruned
    complete = outcome.trials[outcome.trials["state"] == "complete"]
    assert outcome.best == outcome.folder / complete["experiment"].iloc[0]
    assert list(complete["best"]) == sorted(complete["best"])
    assert "learning_rate" in text
    counts = outcome.trials["state"].value_counts()
    assert set(counts.index) == {"complete", "pruned"}
    summary = {f"{count} {state}" for state, count in counts.items()}
    assert summary in [set(line.strip().split(", ")) for line in text.splitlines()]
    assert list(outcome.trials["state"]) == sorted(outcome.trials["state"]), "pruned ones last"
    for name in ("history.png", "slices.png"):
        assert (outcome.folder / name).read_bytes()[1:4] == b"PNG"
    assert len(pd.read_csv(outcome.folder / "trials.csv")) == len(outcome.trials)


def test_the_best_configuration_trains_again(pruned):
    outcome, _ = pruned
    best, again = Experiment(outcome.best).config(), load_config(outcome.folder / "best.json")
    assert again.training == best.training
    assert again.model == best.model
    assert again.data.store == best.data.store


def test_the_same_command_again_starts_nothing_and_more_trials_go_on(pruned, sample_store):
    outcome, _ = pruned
    space = {**SPACE, "pruner": {"kind": "median", "startup_trials": 1}}
    out = str(outcome.folder.parent)
    again, text = sweep(space, sample_store, out=out)
    assert again.trials.equals(outcome.trials)
    assert "trial 0" not in text
    more, _ = sweep(space, sample_store, out=out, trials=6)
    assert len(more.trials) == 6
    with pytest.raises(ConfigError, match="another sampler"):
        sweep({**space, "sampler": {"kind": "tpe"}}, sample_store, out=out)


def command(folder, store, workers):
    (folder / "space.json").write_text(json.dumps(WHOLE))
    words = ["sweep", str(store), "--config", "space.json", "--workers", str(workers), "--out", "."]
    with (folder / "log.txt").open("a") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "dcmnet.cli", *words], cwd=folder, stdout=log, stderr=log
        )


def wait_for(happened, process, folder):
    end = time.monotonic() + PATIENCE
    while not happened():
        assert process.poll() is None, (folder / "log.txt").read_text()
        assert time.monotonic() < end
        time.sleep(0.01)


def epochs(folder):
    """Returns how many epochs each trial has had."""
    found = folder.glob("whole/whole-*/metrics.jsonl")
    return {path.parent.name: path.read_text().count("\n") for path in found}


def states(folder):
    space = parse_space({**WHOLE, "out": str(folder)})
    return [trial.state for trial in slots(open_study(space))]


def test_a_sweep_stopped_and_killed_ends_as_one_that_never_was(
    sample_store, tmp_path, pytestconfig, monkeypatch
):
    """By SIGTERM with two processes, by SIGKILL with one, each amid an epoch."""
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(pytestconfig.cache.mkdir("xla")))
    expected, _ = sweep(WHOLE, sample_store, out=str(tmp_path / "expected"))

    process = command(tmp_path, sample_store, workers=2)
    wait_for(lambda: len(epochs(tmp_path)) >= 2, process, tmp_path)
    process.send_signal(signal.SIGTERM)
    assert process.wait(PATIENCE) == 75, (tmp_path / "log.txt").read_text()
    assert TrialState.RUNNING not in states(tmp_path)
    before = epochs(tmp_path)
    assert sum(before.values()) < 4 * len(expected.trials)

    process = command(tmp_path, sample_store, workers=1)
    wait_for(lambda: sum(epochs(tmp_path).values()) > sum(before.values()), process, tmp_path)
    process.kill()
    process.wait(PATIENCE)
    assert states(tmp_path).count(TrialState.RUNNING) == 1

    found, text = sweep(WHOLE, sample_store, out=str(tmp_path), workers=2)
    assert by_number(found)[RESULT].equals(by_number(expected)[RESULT])
    assert f"{len(expected.trials)} complete" in text
    for name in expected.trials["experiment"]:
        assert metrics(found.folder / name) == metrics(expected.folder / name)


def test_a_trial_that_was_silent_too_long_is_left_to_who_took_it_up(sample_store, tmp_path):
    """A process sleeps amid a trial, as when a machine does, and wakes when it is replaced."""
    space = {**WHOLE, "trials": 1, "out": str(tmp_path)}
    process = command(tmp_path, sample_store, workers=1)
    wait_for(lambda: sum(epochs(tmp_path).values()) > 0, process, tmp_path)
    stop_between_writes(process, tmp_path)
    try:
        study = open_study(parse_space({**space, "trials": 5}))
        end = time.monotonic() + PATIENCE
        while slots(study)[0].number == 0:
            assert time.monotonic() < end
            take_up(study, space)
            time.sleep(0.2)
    finally:
        os.kill(process.pid, signal.SIGCONT)
    assert process.wait(PATIENCE) == 0, (tmp_path / "log.txt").read_text()
    assert states(tmp_path) == [TrialState.COMPLETE] * 5
    assert [line["epoch"] for line in metrics(tmp_path / "whole" / "whole-000")] == [1, 2, 3, 4]


def stop_between_writes(process, folder):
    """Stops a process where it does not hold the lock of the study, which it would keep."""
    (database,) = folder.rglob("*.db")
    for _ in range(100):
        os.kill(process.pid, signal.SIGSTOP)
        try:
            with sqlite3.connect(database, timeout=0.2) as study:
                study.execute("BEGIN IMMEDIATE")
                return
        except sqlite3.OperationalError:
            os.kill(process.pid, signal.SIGCONT)
            time.sleep(0.1)
    raise AssertionError("the study is always locked")


def take_up(study, space):
    from dcmnet.sweep.study import take_up_dead_trials

    take_up_dead_trials(study, parse_space(space))


def test_trials_that_fail_are_told_and_do_not_end_the_sweep(sample_store, tmp_path):
    space = {**SPACE, "trials": 2, "metric": "esp_rsme"}
    with pytest.raises(TrainingError, match="none of 2 trials"):
        sweep(space, sample_store, out=str(tmp_path))
    table = pd.read_csv(tmp_path / "rates" / "trials.csv")
    assert list(table["state"]) == ["failed"] * 2
    assert table["problem"].str.contains("esp_rmse").all(), "the names there are"


def test_what_cannot_begin_leaves_nothing_behind(trained, tmp_path):
    with pytest.raises(StoreError):
        run_sweep(SPACE, tmp_path / "none.zarr", out=str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()
    store = Experiment(trained[2]).config().data.store
    with pytest.raises(ConfigError, match="an experiment"):
        run_sweep({**SPACE, "name": "trial"}, store, out=str(trained[2].parent))
