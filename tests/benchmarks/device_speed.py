"""Measures training on a device: steps, kernels, idle time, transfers, memory, and input."""

import statistics
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from dcmnet import run_training
from dcmnet.config import ModelConfig, TrainingConfig
from dcmnet.training.followers import Follower
from dcmnet.training.optimizer import make_optimizer, make_schedule
from dcmnet.training.step import initial_state, make_steps
from pipeline import make_loader
from pipeline.loader import make_batch
from tests.benchmarks.published_training import published_steps
from tests.molecules import random_molecule, random_parameters

STEPS = 20
ATOMS, POINTS = (15, 22), 1008  # as QM9 has them


class Measured(NamedTuple):
    """Of one size of network and batch.

    Attributes:
        features: Of the network.
        batch: Molecules.
        ms: Milliseconds per step, its batch on the device.
        molecules_per_second: From that.
        kernels: Programs that the device ran for a step; None where it does not say.
        idle: Share of the time of the steps in which it ran none; likewise.
        transfer_ms: To bring a batch to the device.
        peak_mb: Memory of the device so far; likewise.
    """

    features: int
    batch: int
    ms: float
    molecules_per_second: float
    kernels: float | None
    idle: float | None
    transfer_ms: float
    peak_mb: float | None


def steps_of(features, batch_size, n_dcm=2, rounds=5):
    """Measures steps of a network on a batch of molecules of QM9's sizes."""
    rng = np.random.default_rng(0)
    few = [random_molecule(rng, int(rng.integers(*ATOMS)), POINTS) for _ in range(16)]
    on_host = make_batch([few[i % len(few)] for i in range(batch_size)])
    config = TrainingConfig(batch_size=batch_size, use_lr_schedule=False)
    network = ModelConfig(features=features, n_dcm=n_dcm)
    schedule = jax.jit(make_schedule(config, 1))
    optimizer = make_optimizer(config, schedule)
    steps = make_steps(network, config, schedule)
    state = initial_state(jax.tree.map(jax.numpy.array, random_parameters(network)), optimizer)
    transfers = [_seconds(lambda: jax.block_until_ready(jax.device_put(on_host))) for _ in range(5)]
    batch, empty = jax.device_put(on_host), steps.no_gradient(state.params)

    def some_steps():
        nonlocal state
        for _ in range(STEPS):
            gradient, _ = steps.accumulate(state.params, empty, batch)
            state, _ = steps.update(state, gradient)
        jax.block_until_ready(state)

    some_steps()
    seconds = statistics.median(_seconds(some_steps) for _ in range(rounds)) / STEPS
    kernels, idle = traced(some_steps)
    memory = jax.devices()[0].memory_stats() or {}
    peak = memory.get("peak_bytes_in_use")
    return Measured(
        features,
        batch_size,
        1e3 * seconds,
        batch_size / seconds,
        kernels,
        idle,
        1e3 * statistics.median(transfers),
        peak and peak / 2**20,
    )


def published_of(features, n_dcm=2, rounds=5):
    """Returns the milliseconds per molecule of steps of the published implementation."""
    rng = np.random.default_rng(0)
    few = [random_molecule(rng, int(rng.integers(*ATOMS)), POINTS) for _ in range(8)]
    model = ModelConfig(features=features, n_dcm=n_dcm)
    with published_steps(few, model, TrainingConfig().esp_w) as seconds:
        return 1e3 * statistics.median(seconds() for _ in range(rounds)) / len(few)


def _seconds(call):
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def traced(call):
    """Returns the programs per step that a card ran during a call, and its idle share."""
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            seconds = _seconds(call)
        (file,) = Path(folder).rglob("*.xplane.pb")
        data = jax.profiler.ProfileData.from_file(str(file))
        events = [
            (event.start_ns, event.start_ns + event.duration_ns)
            for plane in data.planes
            if plane.name.startswith("/device:GPU")
            for line in plane.lines
            if line.name.startswith("Stream")
            for event in line.events
        ]
    if not events:
        return None, None
    return len(events) / STEPS, 1 - covered(events) / (1e9 * seconds)


def covered(spans):
    """Returns the length of the union of spans."""
    total, end = 0.0, -np.inf
    for begin, stop in sorted(spans):
        total += max(0.0, stop - max(begin, end))
        end = max(end, stop)
    return total


class Records(Follower):
    """Keeps what a run reports of its epochs."""

    def __init__(self):
        self.epochs = []

    def on_epoch(self, record):
        self.epochs.append(record)


def run_of(store, features, batch_size, epochs=4):
    """Returns molecules/s, input wait and padding of a run's last epochs."""
    records = Records()
    with tempfile.TemporaryDirectory() as folder:
        run_training(
            "run",
            store,
            out=folder,
            features=features,
            batch_size=batch_size,
            num_epochs=epochs,
            save_every_n_epochs=0,
            summary_every_n_epochs=0,
            print_every_n_epochs=epochs,
            followers=[records],
        )
    last = records.epochs[-2:]
    return tuple(
        statistics.mean(getattr(record, name) for record in last)
        for name in ("molecules_per_second", "input_wait_fraction", "padding_waste")
    )


def feeding(store, batch_size, epochs=3, preload=True):
    """Returns the molecules/s that the loader brings to a step that does nothing."""
    loader = make_loader(store, batch_size=batch_size, num_epochs=None, preload=preload)
    batches, found = iter(loader), []
    for _ in range(epochs + 1):
        start = time.perf_counter()
        for _ in range(len(loader)):
            jax.block_until_ready(jax.device_put(next(batches)))
        found.append(loader.n_molecules / (time.perf_counter() - start))
    return statistics.median(found[1:])  # the first reads the store
