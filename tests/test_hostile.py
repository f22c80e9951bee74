"""Stores, experiments and models that were damaged, or made to harm: one line or a right result."""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
import zipfile

import numpy as np
import pytest

from pipeline import ingest
from pipeline.inspection.validate import validate_store
from pipeline.sample import sample_sources
from store_schema.problems import StoreError
from tests.hostile import VALUES, copied, limited, mutate, outcome

STORES, EXPERIMENTS, MODELS, PROCESSES = 8, 1, 12, 1
# With three commands on stores and five on experiments, 1,500 more.
MANY_STORES, MANY_EXPERIMENTS = 300, 120
# In KiB, as the system counts it: more than what was there before.
MOST_MEMORY = 2 * 2**20
WATER = "3\nwater charge=0\nO 0 0 0.12\nH 0 0.76 -0.48\nH 0 -0.76 -0.48\n"
ON_STORES = (["inspect"], ["validate"], ["bench", "--seconds", "0.1"])


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """An empty folder to run in, into which nothing may be written."""
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def attempt(seed, done, *words):
    """Runs a command within the limits that are promised."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        with limited(20, stoppable=words[0] == "resume"):
            outcome(*words)
        used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        assert used < MOST_MEMORY, f"{used} KiB"
    except BaseException as error:
        error.add_note(f"seed {seed}: {done}, {words[0]}")
        raise


def try_stores(small_store, tmp_path, seeds):
    for seed in seeds:
        store = copied(small_store, tmp_path / "a.zarr")
        done = mutate(store, np.random.default_rng(seed))
        for command, *options in ON_STORES:
            attempt(seed, done, command, store, *options)


def on_experiments(experiment, store, folder):
    """Commands that read an experiment, on a store; the last changes the experiment."""
    structure = folder / "water.xyz"
    structure.write_text(WATER)
    out = ("--out", folder / "out.xyz", "--overwrite")
    return (
        ("predict", experiment, structure, *out),
        ("analyze", experiment, "--store", store, "--split", "all", "--overwrite"),
        ("compare", experiment, "--store", store, "--split", "all", "--out", folder / "out.png"),
        ("report", experiment),
        ("resume", experiment),
    )


def try_experiments(small_experiment, tmp_path, seeds):
    for seed in seeds:
        rng = np.random.default_rng(seed)
        folder = tmp_path / "work"
        experiment = copied(small_experiment[0], folder / "trial")
        store = copied(small_experiment[1], folder / "b.zarr")
        config = (experiment / "config.json").read_text()
        moved = config.replace(str(small_experiment[1]), str(store))
        (experiment / "config.json").write_text(moved)
        done = mutate(experiment if rng.random() < 0.7 else store, rng)
        for words in on_experiments(experiment, store, tmp_path):
            attempt(seed, done, *words)


def try_models(model, tmp_path, seeds):
    """Changes an exported model; it gives charges, or one error that says what is wrong."""
    from dcmnet.prediction.artefact_runner import load

    for seed in seeds:
        rng = np.random.default_rng(seed)
        path = tmp_path / "folder" / "m.dcmx"
        copied(model.parent, path.parent)
        done = mutate(path.parent, rng) if rng.random() < 0.4 else other_member(path, rng)
        try:
            with limited(20):
                places = [[0.0, 0, 0.12], [0, 0.76, -0.48], [0, -0.76, -0.48]]
                charges, _ = load(path).predict([8, 1, 1], places)
            assert charges.sum() == pytest.approx(0, abs=1e-6)
        except (ValueError, OSError):
            continue
        except BaseException as error:
            error.add_note(f"seed {seed}: {done}")
            raise


def other_member(path, rng):
    """Writes the archive again with another description, or without one of its members."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    described = json.loads(members["metadata.json"])
    key = list(described)[rng.integers(len(described))]
    described[key] = VALUES[rng.integers(len(VALUES))]
    members["metadata.json"] = json.dumps(described).encode()
    left_out = list(members)[rng.integers(len(members))] if rng.random() < 0.2 else ""
    with zipfile.ZipFile(path, "w") as archive:
        for name in members.keys() - {left_out}:
            archive.writestr(name, members[name])
    return f"{key} is {str(described[key])[:40]!r}, without {left_out!r}"


def try_processes(small_experiment, tmp_path, seeds):
    """The real commands: an exit code, and on standard error nothing or what is wrong."""
    for seed in seeds:
        rng = np.random.default_rng(seed)
        experiment = copied(small_experiment[0], tmp_path / "trial")
        store = copied(small_experiment[1], tmp_path / "b.zarr")
        done = mutate(experiment if rng.random() < 0.5 else store, rng)
        commands = [*on_experiments(experiment, store, tmp_path)[:4]]
        commands += [(command, store, *options) for command, *options in ON_STORES]
        words = commands[rng.integers(len(commands))]
        ended = subprocess.run(
            [sys.executable, "-m", "dcmnet.cli", *map(str, words)],
            capture_output=True,
            check=False,
            timeout=120,
            env=os.environ | {"JAX_PLATFORMS": "cpu"},
        )
        said = ended.stderr.decode()
        about = f"seed {seed}: {done}, {words[0]}: {said}"
        assert ended.returncode in (0, 1, 2), about
        assert "should not happen" not in said, about
        assert "Traceback" not in said, about
        if ended.returncode == 1 and words[0] != "validate":
            assert said.startswith("Error: "), about


def test_a_damaged_store_is_one_line_or_right(small_store, tmp_path, elsewhere):
    try_stores(small_store, tmp_path, range(STORES))
    assert not list(elsewhere.iterdir())


def test_a_damaged_experiment_is_one_line_or_right(small_experiment, tmp_path, elsewhere):
    try_experiments(small_experiment, tmp_path, range(EXPERIMENTS))
    assert not list(elsewhere.iterdir())


def test_a_damaged_model_is_one_line_or_right(small_experiment, tmp_path):
    from dcmnet.prediction import export_model

    (tmp_path / "exported").mkdir()
    model = export_model(small_experiment[0], tmp_path / "exported" / "m.dcmx")
    try_models(model, tmp_path, range(MODELS))


def test_the_real_commands_say_what_is_wrong(small_experiment, tmp_path):
    try_processes(small_experiment, tmp_path, range(PROCESSES))


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_many_damaged_stores_and_experiments(small_store, small_experiment, tmp_path, elsewhere):
    try_stores(small_store, tmp_path, range(STORES, STORES + MANY_STORES))
    try_experiments(small_experiment, tmp_path, range(EXPERIMENTS, EXPERIMENTS + MANY_EXPERIMENTS))
    assert not list(elsewhere.iterdir())
    try_processes(small_experiment, tmp_path, range(PROCESSES, 40))


def truncated(store):
    chunk = store / "n_grid" / "c" / "0"
    chunk.write_bytes(chunk.read_bytes()[:5])


def lost(store):
    (store / "n_grid" / "c" / "0").rename(store / "n_grid" / "c" / "9")


def linked(store):
    (store.parent / "elsewhere").mkdir()
    shutil.rmtree(store / "n_grid" / "c")
    (store / "n_grid" / "c").symlink_to(store.parent / "elsewhere")


def reshaped(store):
    path = store / "esp" / "zarr.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"shape": [5, 5]}))


@pytest.mark.parametrize("damage", [truncated, lost, linked, reshaped])
def test_nothing_is_added_to_a_damaged_store(small_store, tmp_path, damage):
    store = copied(small_store, tmp_path / "a.zarr")
    damage(store)
    with pytest.raises(StoreError, match=r"n_grid|esp"):
        ingest([sample_sources()[0]], store, append=True)
    assert not list(tmp_path.glob("elsewhere/*"))


def test_stray_files_among_chunks_are_left_alone(small_store, tmp_path):
    store = copied(small_store, tmp_path / "a.zarr")
    stray = [store / "esp" / "c" / ".DS_Store", store / "n_grid" / "c" / "²"]
    for path in stray:
        path.touch()
    ingest([sample_sources()[0]], store, append=True)
    assert not validate_store(str(store)).problems
    assert all(path.exists() for path in stray)
