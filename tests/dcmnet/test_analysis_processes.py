"""Analyses as users start them: two processes at once on one store both arrive."""

import os
import subprocess
import sys
from functools import partial

import pytest
import xarray as xr

from tests.experiments import copy

PATIENCE = 300.0


def launched(experiment, store, *options, cache):
    environment = {**os.environ, "JAX_COMPILATION_CACHE_DIR": str(cache)}
    arguments = ["analyze", str(experiment), "--store", str(store), "--split", "all", *options]
    with experiment.with_suffix(".log").open("a") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "dcmnet.cli", *arguments],
            env=environment,
            stdout=log,
            stderr=log,
        )


def ended(process, experiment):
    assert process.wait(PATIENCE) == 0, experiment.with_suffix(".log").read_text()


def groups(store):
    """Returns the results in a store, read whole."""
    with xr.open_datatree(store, engine="zarr") as tree:
        children = tree["results"].children if "results" in tree.children else {}
        return {name: group.to_dataset().load() for name, group in children.items()}


def staging(store):
    """Where the results of an analysis under way wait; hidden beside the store."""
    return list(store.parent.glob(f".{store.name}*"))


@pytest.fixture
def place(trained, sample_store, tmp_path, pytestconfig):
    """Copies of an experiment and a store, and how to analyse the one in the other."""
    experiment = copy(trained[2], tmp_path / "trial")
    store = copy(sample_store, tmp_path / "sample.zarr")
    launch = partial(launched, cache=pytestconfig.cache.mkdir("xla"))
    return experiment, store, launch


def test_two_analyses_at_once_both_arrive(place, tmp_path):
    experiment, store, launch = place
    other = copy(experiment, tmp_path / "other")
    processes = [
        launch(experiment, store, "--checkpoint", "best"),
        launch(other, store, "--checkpoint", "epoch_2"),
    ]
    for process, directory in zip(processes, (experiment, other), strict=True):
        ended(process, directory)
    together = groups(store)
    assert set(together) == {"trial", "trial-epoch_2"}
    assert not staging(store)
    for name, group in together.items():
        assert group["esp_rmse"].notnull().all()
        assert "statistics" in group.attrs, name
