"""Training by one device, two devices of one process, and two processes, on loopback.

Two cores are one machine: what this shows is what the exchange costs, not what a cluster
gains. A device of XLA's CPU takes all cores it is let; held to one core, as Slurm does
with tasks, two processes can be set beside one.
"""

from __future__ import annotations

import os
import statistics

import pytest

from dcmnet.experiment.directory import Experiment
from tests.dcmnet.training.process_case import launching

pytestmark = pytest.mark.benchmark

BATCH = 32
EPOCHS = {"quick": 20, "quality": 8}
# Processes, devices of each, and whether each is held to a core of its own.
LAUNCHES = [(1, 1, False), (1, 2, False), (2, 1, False), (1, 1, True), (2, 1, True)]
_WARM = 2


def speed(launch, words, directory, kind):
    processes, devices, held = kind
    flags = f"--xla_force_host_platform_device_count={devices}"
    group = launch(words, count=processes, XLA_FLAGS=flags)
    if held:
        for core, process in zip(sorted(os.sched_getaffinity(0)), group.processes, strict=False):
            os.sched_setaffinity(process.pid, {core})
    assert set(group.codes()) == {0}, group.said()
    records = Experiment(directory).history()[_WARM:]
    return statistics.median(record.molecules_per_second for record in records)


@pytest.mark.parametrize("preset", EPOCHS)
def test_processes_beside_devices(preset, sample_store, tmp_path, pytestconfig, capsys):
    settings = {
        "batch_size": BATCH,
        "num_epochs": EPOCHS[preset],
        "save_every_n_epochs": 0,
        "summary_every_n_epochs": 0,
    }
    words = ["train", str(sample_store), "--preset", preset, "--out", str(tmp_path)]
    words += [word for field in settings.items() for word in ("--set", "{}={}".format(*field))]
    found = {}
    with launching(tmp_path, pytestconfig.cache.mkdir("xla")) as launch:
        for index, kind in enumerate(LAUNCHES):
            directory = tmp_path / f"run{index}"
            found[kind] = speed(launch, [*words, "--name", directory.name], directory, kind)
    with capsys.disabled():
        print(f"\n{preset}, batches of {BATCH}: processes × devices, ms per step, molecules/s")
        for (processes, devices, held), rate in found.items():
            title = f"{processes} × {devices} | {'a core each' if held else 'both cores'}"
            print(f"| {title} | {1000 * BATCH / rate:.0f} | {rate:,.0f} |")
