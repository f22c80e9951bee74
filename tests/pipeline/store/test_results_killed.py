"""SIGKILL while results are written: the group is as before, absent, or whole, and nothing else."""

import subprocess
import sys

import numpy as np
import xarray as xr

from pipeline import open_store
from pipeline.store.results import write_results
from tests.experiments import copy

# Kills itself at a step on the file system while it replaces results; a fork for each step.
CHILD = """
import os, signal, sys, shutil
from pathlib import Path
import numpy as np, xarray as xr
from pipeline.store.results import write_results

store, folder, size = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
dataset = xr.Dataset({"esp_rmse": ("molecule", np.full(size, 2.0, "f4"))}, attrs={"run": 2})
STEPS = [(Path, "rename"), (Path, "replace"), (Path, "mkdir")]

def dying(at):
    count = 0
    for owner, name in STEPS:
        def step(*arguments, _original=getattr(owner, name), **options):
            nonlocal count
            count += 1
            if count == at:
                os.kill(os.getpid(), signal.SIGKILL)
            return _original(*arguments, **options)
        setattr(owner, name, step)

at = 1
while True:
    copy = folder / f"{at}.zarr"
    shutil.copytree(store, copy)
    child = os.fork()
    if not child:
        dying(at)
        write_results(copy, "a", dataset, overwrite=True)
        os._exit(0)
    if not os.WIFSIGNALED(os.waitpid(child, 0)[1]):
        break
    at += 1
"""


def groups(store):
    with open_store(store) as tree:
        return {
            name: group.to_dataset().load()
            for name, group in (
                tree["results"].children if "results" in tree.children else {}
            ).items()
        }


def test_killed_at_every_step_of_replacing_results(sample_store, tmp_path):
    store = copy(sample_store, tmp_path / "first.zarr")
    size = open_store(store).sizes["molecule"]
    one = xr.Dataset({"esp_rmse": ("molecule", np.ones(size, "f4"))}, attrs={"run": 1})
    write_results(store, "a", one)
    write_results(store, "other", one)
    folder = tmp_path / "killed"
    folder.mkdir()
    subprocess.run([sys.executable, "-c", CHILD, str(store), str(folder), str(size)], check=True)
    outcomes = []
    for at in range(1, len(list(folder.glob("[0-9]*.zarr"))) + 1):
        found = groups(folder / f"{at}.zarr")
        other = found.pop("other")
        assert (other["esp_rmse"].values == 1).all()
        assert found.keys() <= {"a"}
        if found:
            values = set(found["a"]["esp_rmse"].values.tolist())
            assert values == {float(found["a"].attrs["run"])}
        outcomes.append(found["a"].attrs["run"] if found else None)
        # Whatever was left behind, the next one gets through and leaves nothing.
        write_results(folder / f"{at}.zarr", "a", one, overwrite=True)
        assert groups(folder / f"{at}.zarr")["a"].attrs["run"] == 1
    assert outcomes[0] == 1
    assert outcomes[-1] == 2  # the last was not killed
    assert outcomes == sorted(outcomes, key=lambda run: {1: 0, None: 1, 2: 2}[run])
    assert not list(folder.glob(".*"))
