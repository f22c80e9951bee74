"""Analyses as users start them: two at once both arrive, and a killed one leaves no trace."""

import hashlib
import json
import os
import subprocess
import sys
import time
from functools import partial

import matplotlib.image
import numpy as np
import pytest
import xarray as xr

from dcmnet.analysis.run import analyze
from pipeline import open_store
from pipeline.inspection.validate import validate_store
from tests.experiments import copy
from tests.kept_programs import second_start

PATIENCE = 300.0
KILLS = 8


def launched(experiment, store, *options, cache):
    environment = {**os.environ, "JAX_COMPILATION_CACHE_DIR": str(cache)}
    arguments = ["analyze", str(experiment), "--store", str(store), "--split", "all", *options]
    with log_of(experiment).open("a") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "dcmnet.cli", *arguments],
            env=environment,
            stdout=log,
            stderr=log,
        )


def log_of(experiment):
    return experiment.with_suffix(".log")


def ended(process, experiment):
    assert process.wait(PATIENCE) == 0, log_of(experiment).read_text()


def groups(store):
    """Returns the results in a store, read whole."""
    with open_store(store) as tree:
        children = tree["results"].children if "results" in tree.children else {}
        return {name: group.to_dataset().load() for name, group in children.items()}


def staging(store):
    """Where the results of an analysis under way wait; hidden beside the store."""
    return list(store.parent.glob(f".{store.name}*"))


def contents(store):
    """Returns the digest of every file of a store."""
    return {
        path.relative_to(store): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in store.rglob("*")
        if path.is_file()
    }


def wait_until(happened, process):
    end = time.monotonic() + PATIENCE
    while not happened() and process.poll() is None:
        assert time.monotonic() < end
        time.sleep(0.002)


def killed_when_staged(process, store, count):
    """Kills an analysis once so many wait for their commit; results are there by then."""
    wait_until(lambda: len(staging(store)) >= count, process)
    process.kill()
    assert process.wait(PATIENCE) < 0


def assert_files_whole(experiment):
    """What an analysis wrote beside the experiment can be read; half-written files are hidden."""
    for path in (experiment / "analysis").glob("[!.]*.*"):
        if path.suffix == ".png":
            matplotlib.image.imread(path)
        elif path.suffix == ".json":
            json.loads(path.read_text())


def assert_same_numbers(found, expected):
    xr.testing.assert_identical(found.drop_attrs(), expected.drop_attrs())
    assert found.attrs["statistics"] == expected.attrs["statistics"]


@pytest.fixture
def place(trained, sample_store, tmp_path, pytestconfig):
    """Copies of an experiment and a store, and how to analyse the one in the other."""
    experiment = copy(trained[2], tmp_path / "trial")
    store = copy(sample_store, tmp_path / "sample.zarr")
    launch = partial(launched, cache=pytestconfig.cache.mkdir("xla"))
    return experiment, store, launch


@pytest.mark.slow
def test_two_analyses_at_once_are_killed_and_both_arrive_the_next_time(place, tmp_path):
    experiment, store, launch = place
    other = copy(experiment, tmp_path / "other")
    before = contents(store)

    def both():
        return [
            launch(experiment, store, "--checkpoint", "best"),
            launch(other, store, "--checkpoint", "epoch_2"),
        ]

    for process in both():
        killed_when_staged(process, store, count=2)
    assert contents(store) == before

    for process, directory in zip(both(), (experiment, other), strict=True):
        ended(process, directory)
    together = groups(store)
    assert set(together) == {"trial", "trial-epoch_2"}
    assert not staging(store)
    for name, group in together.items():
        assert group["esp_rmse"].notnull().all()
        assert "statistics" in group.attrs, name


@pytest.mark.slow
@pytest.mark.parametrize("replaces", [False, True])
def test_an_analysis_killed_at_many_moments(place, replaces):
    experiment, store, launch = place
    expected, takes = never_killed(launch, experiment, store)
    if replaces:  # results of another checkpoint, to be told from the new ones
        analyze(
            experiment, store=store, split="all", checkpoint="epoch_2", name="trial", figures=False
        )
    old, before = groups(store).get("trial"), contents(store)

    rng = np.random.default_rng()  # other moments each time
    outcomes = []
    for share in (np.arange(KILLS) + rng.uniform(size=KILLS)) / KILLS:
        victim = copy(store, store.with_name(f"{len(outcomes)}.zarr"))
        process = launch(experiment, victim, *(["--overwrite"] if replaces else []))
        wait_until(lambda victim=victim: staging(victim), process)
        time.sleep(share * takes)
        process.kill()
        process.wait(PATIENCE)
        outcomes.append(outcome(victim, old, expected))
        assert outcomes[-1] != "old" or contents(victim) == before
        assert_files_whole(experiment)

        analyze(experiment, store=victim, split="all", overwrite=True, figures=False)
        assert_same_numbers(groups(victim)["trial"], expected)
        assert not staging(victim)
    print(f"\nkilled {KILLS} times within {takes:.1f} s: {outcomes}")
    assert {"old" if replaces else "none", "new"} <= set(outcomes)


def never_killed(launch, experiment, store):
    """Returns the results of an analysis of a copy, and seconds from its first trace to its end."""
    untouched = copy(store, store.with_name("untouched.zarr"))
    process = launch(experiment, untouched)
    wait_until(lambda: staging(untouched), process)
    start = time.monotonic()
    ended(process, experiment)
    return groups(untouched)["trial"], time.monotonic() - start


def outcome(store, old, new):
    """Tells what a killed analysis left to readers, which is whole whatever it is."""
    assert validate_store(store).problems == ()
    found = groups(store)
    if not found:
        return "none"
    assert set(found) == {"trial"}
    is_old = old is not None and found["trial"].attrs["epoch"] == old.attrs["epoch"]
    assert_same_numbers(found["trial"], old if is_old else new)
    return "old" if is_old else "new"


STARTED = """
from dcmnet.analysis import analyze
analyze(sys.argv[1], store=sys.argv[2], split="all", overwrite=True, figures=False, ladder=0)
found = None
"""


def test_a_second_analysis_needs_neither_flax_nor_e3x(place):
    experiment, store, _ = place
    analyze(experiment, store=store, split="all", figures=False, ladder=0)
    results = groups(store)
    imported, _ = second_start(STARTED, experiment, store)
    assert imported == []
    for name, group in groups(store).items():
        xr.testing.assert_equal(group, results[name])
