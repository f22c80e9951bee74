"""The loader in programs: several processes of a run, killed and resumed; one that ends midway."""

import json
import subprocess
import sys

import numpy as np
import pytest

from tests.stores import random_columns, write_store

N, PROCESSES = 611, 2

# Streams its shard, writes down every batch, saves the state after each, and may stop midway.
_READER = """
import json, sys
from pipeline.loader import make_loader
store, index, count, stop, log, state = sys.argv[1:]
loader = make_loader(store, batch_size=16, split="all", shard=(int(index), int(count)), seed=3,
                     num_epochs=2, memory_bytes=1_000_000)
iterator = iter(loader)
try:
    iterator.set_state(json.load(open(state)))
except FileNotFoundError:
    pass
for i, batch in enumerate(iterator):
    if i == int(stop):
        break
    with open(log, "a") as lines:
        rows = batch.molecule_index[batch.molecule_mask].tolist()
        print(json.dumps([rows, list(batch.shape), float(batch.esp.sum())]), file=lines)
    json.dump(iterator.get_state(), open(state, "w"))
sys.stdout.flush()
"""


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    rng = np.random.default_rng(5)
    columns = random_columns(rng, rng.integers(1, 12, N), rng.integers(1, 300, N), missing=0)
    return write_store(tmp_path_factory.mktemp("processes") / "s.zarr", columns)


def read(store, folder, stops):
    """Runs all processes at once, again for each stop; returns what each of them wrote."""
    for stop in stops:
        running = [
            subprocess.Popen(
                [
                    *(sys.executable, "-c", _READER, str(store), str(index), str(PROCESSES)),
                    *(str(stop), str(folder / f"{index}.log"), str(folder / f"{index}.json")),
                ]
            )
            for index in range(PROCESSES)
        ]
        assert [process.wait(timeout=120) for process in running] == [0] * PROCESSES
    return [
        [json.loads(line) for line in (folder / f"{index}.log").read_text().splitlines()]
        for index in range(PROCESSES)
    ]


def test_processes_share_an_epoch_and_resume_in_the_middle_of_it(store, tmp_path):
    whole, resumed = tmp_path / "whole", tmp_path / "resumed"
    whole.mkdir()
    resumed.mkdir()
    batches = read(store, whole, [10**6])
    assert read(store, resumed, [7, 10**6]) == batches
    steps = len(batches[0])
    assert [len(mine) for mine in batches] == [steps] * PROCESSES
    for step in range(steps):
        assert batches[0][step][1] == batches[1][step][1], "shapes at each step are the same"
    for epoch in (slice(steps // 2), slice(steps // 2, steps)):
        rows = [row for mine in batches for batch in mine[epoch] for row in batch[0]]
        assert sorted(rows) == list(range(N))


@pytest.mark.parametrize("prefetch", [0, 2])
def test_a_program_may_end_in_the_middle_of_an_epoch(store, prefetch):
    program = (
        "import multiprocessing\n"  # with it, modules go before the iterator does
        "from pipeline.loader import make_loader\n"
        f"loader = make_loader({str(store)!r}, batch_size=2, prefetch={prefetch})\n"
        "iterator = iter(loader)\n"
        "next(iterator)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=True
    )
    assert done.stderr == ""
