"""Commands that a signal stops at any moment leave the old or the new, and say so in a line."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from pipeline import open_store
from pipeline.inspection.validate import validate_store
from pipeline.sample import sample_sources
from tests.experiments import copy

WATER = "3\nwater charge=0\nO 0 0 0.12\nH 0 0.76 -0.48\nH 0 -0.76 -0.48\n"
COMMANDS = {
    "ingest": ("ingest", sample_sources()[0], "--store", "new.zarr"),
    "append": ("ingest", sample_sources()[0], "--store", "b.zarr", "--append"),
    "inspect": ("inspect", "b.zarr"),
    "validate": ("validate", "b.zarr"),
    "resume": ("resume", "trial"),
    "analyze": ("analyze", "trial", "--store", "b.zarr", "--split", "all", "--overwrite"),
    "compare": ("compare", "trial", "trial@epoch_1", "--store", "b.zarr", "--split", "all"),
    "predict": ("predict", "trial", "water.xyz", "--out", "out.xyz"),
    "export": ("export", "trial", "--out", "model.dcmx"),
    "report": ("report", "trial"),
    "bench": ("bench", "b.zarr", "--seconds", "1"),
}
NEW = {"new.zarr", "comparison.png", "comparison.csv", "out.xyz", "model.dcmx"}
# Ended before the signal, or saved what it trained.
DONE, SAVED = 0, 75
STOPPED = {signal.SIGINT: {130, -2}, signal.SIGTERM: {143, -15}}
QUICK = (("append", signal.SIGINT), ("report", signal.SIGTERM))


def interrupted(name, number, small_experiment, folder, delay):
    """Runs a command in a folder of its own, and stops it."""
    experiment, store = small_experiment
    folder.mkdir()
    copy(experiment, folder / "trial")
    copy(store, folder / "b.zarr")
    (folder / "water.xyz").write_text(WATER)
    before = {path.name for path in folder.iterdir()}
    process = subprocess.Popen(
        [sys.executable, "-m", "dcmnet", *map(str, COMMANDS[name])],
        cwd=folder,
        env=os.environ | {"JAX_PLATFORMS": "cpu"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    time.sleep(delay)
    process.send_signal(number)
    _, said = process.communicate(timeout=120)
    about = f"{name}, {number.name} after {delay:.2f} s: {process.returncode}, {said}"
    assert process.returncode in {DONE, SAVED, *STOPPED[number]}, about
    assert "Traceback" not in said, about
    assert {path.name for path in folder.iterdir()} - before <= NEW, about
    assert not [path for path in folder.rglob("*") if "partial" in path.name], about
    assert not validate_store(str(folder / "b.zarr")).problems, about
    if (folder / "new.zarr").exists():
        assert len(open_store(folder / "new.zarr").to_dataset().positions), about


@pytest.mark.parametrize(("name", "number"), QUICK)
def test_a_signal_leaves_the_old_or_the_new(name, number, small_experiment, tmp_path, rng):
    interrupted(name, number, small_experiment, tmp_path / "work", rng.uniform(0.3, 2.0))


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", COMMANDS)
def test_signals_at_many_moments(name, small_experiment, tmp_path):
    rng = np.random.default_rng(1)
    for attempt in range(8):
        number = (signal.SIGINT, signal.SIGTERM)[attempt % 2]
        delay = rng.uniform(0.3, 8.0 if name not in ("ingest", "append", "inspect") else 3.0)
        interrupted(name, number, small_experiment, tmp_path / str(attempt), delay)
