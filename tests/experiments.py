"""The short training that tests of everything after it share, and runs like it."""

import json
import shutil
from pathlib import Path

# Small enough to compile quickly; points are chosen at random, as in real runs.
SETTINGS = {
    "features": 4,
    "max_degree": 1,
    "num_iterations": 1,
    "num_basis_functions": 4,
    "batch_size": 16,
    "num_epochs": 3,
    "learning_rate": 5e-3,
    "grid_points": 200,
    "save_every_n_epochs": 2,
    "summary_every_n_epochs": 0,  # its figures take longer than the training
}
# Fields of a metrics line that tell how fast a run was, not what it computed.
_CLOCKED = ("seconds", "molecules_per_second", "input_wait_fraction", "compile_seconds")


def metrics(directory):
    """Returns the lines of ``metrics.jsonl``, without what a clock measured."""
    lines = (Path(directory) / "metrics.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    return [{k: v for k, v in record.items() if k not in _CLOCKED} for record in records]


def copy(directory, to, store=None):
    """Copies an experiment or a store, so that the shared one stays as it is.

    An experiment's analyses go into the store that it was trained on, if no other is given.
    """
    shutil.copytree(directory, to)
    if store:
        config = json.loads((Path(to) / "config.json").read_text())
        config["data"]["store"] = str(store)
        (Path(to) / "config.json").write_text(json.dumps(config))
    return Path(to)
