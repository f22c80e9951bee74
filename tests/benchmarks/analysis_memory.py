"""Measures the peak memory of an analysis, in a process of its own."""

import re
from pathlib import Path

import numpy as np

from dcmnet.analysis.run import analyze
from pipeline import open_store
from tests.stores import NAMES, write_store

_PEAK = re.compile(r"^VmHWM:\s+(\d+) kB$", re.MULTILINE)


def tiled(store, to, copies):
    """Writes a store that has the molecules of another over and over."""
    with open_store(store) as tree:
        molecules = tree.to_dataset().load()
    columns = {
        name: np.concatenate([molecules[name].values] * copies)
        for name in NAMES
        if name in molecules and name != "molecule_id"
    }
    return write_store(to, columns)


def analysis_peak(experiment, store):
    """Returns the peak memory of this process in MB, after it analysed a whole store."""
    analyze(experiment, store=store, split="all", name="peak", overwrite=True)
    return int(_PEAK.search(Path("/proc/self/status").read_text())[1]) * 1024 / 1e6
