"""Times training steps and whole runs, compared with the plain way of training."""

import time
from pathlib import Path

import jax
import numpy as np

from dcmnet import run_training
from dcmnet.config import ModelConfig, TrainingConfig
from dcmnet.model.compilation import set_up_compilation
from dcmnet.training.followers import Follower
from dcmnet.training.optimizer import make_optimizer, make_schedule
from dcmnet.training.statistics import TOTAL
from dcmnet.training.step import initial_state, make_steps
from pipeline import ingest, make_loader
from pipeline.loader import make_batch
from pipeline.sample import sample_sources
from tests.benchmarks.plain_training import (
    PlainNetwork,
    padded,
    plain_parameters,
    plain_step,
)
from tests.benchmarks.published_training import published_steps
from tests.molecules import random_molecule, random_parameters

MODEL = ModelConfig(features=16, max_degree=2, num_iterations=2, num_basis_functions=16, n_dcm=2)
TRAINING = TrainingConfig(batch_size=16, use_lr_schedule=False)
BUCKETS = ((9, 12), (13, 16), (17, 20))  # atoms, as in QM9; equally many molecules in each
POINTS = (1000, 1500)
ROUNDS = 15
# Steps, as a training has them; each alone would find the caches as the other way left them.
IN_A_ROW = 8
FEW = 126  # training molecules of a small run
EPOCHS = 60


def qm9_like(rng, smallest, largest):
    """Returns the molecules of one batch."""
    return [
        random_molecule(rng, int(rng.integers(smallest, largest + 1)), int(rng.integers(*POINTS)))
        for _ in range(TRAINING.batch_size)
    ]


def seconds_of(function, *arguments):
    """Returns the result of a call, all of it computed, and the seconds it took."""
    start = time.perf_counter()
    result = jax.block_until_ready(function(*arguments))
    return result, time.perf_counter() - start


class _Ours:
    """A network under training."""

    def __init__(self, params):
        set_up_compilation()  # as a training does
        schedule = jax.jit(make_schedule(TRAINING, 1))
        self.steps = make_steps(MODEL, TRAINING, schedule)
        self.optimizer = make_optimizer(TRAINING, schedule)
        self._state = initial_state(jax.tree.map(jax.numpy.array, params), self.optimizer)
        self._nothing = self.steps.no_gradient(params)

    def seconds(self, batch):
        """Returns the seconds per molecule of a step on a batch."""

        def in_a_row():
            for _ in range(IN_A_ROW):
                gradient, _ = self.steps.accumulate(self._state.params, self._nothing, batch)
                self._state, _ = self.steps.update(self._state, gradient)
            return self._state

        return seconds_of(in_a_row)[1] / IN_A_ROW / TRAINING.batch_size


def step_times():
    """Measures both ways in turn, in one process, after both have compiled.

    Returns:
        Seconds a molecule of each step by the two ways, and the losses that both gave
        for the first batch before any update.
    """
    rng = np.random.default_rng(0)
    batches = [qm9_like(rng, *bucket) for bucket in BUCKETS]
    params = random_parameters(MODEL)
    ours = _Ours(params)
    trimmed = [jax.device_put(make_batch(molecules)) for molecules in batches]
    plain = plain_step(PlainNetwork(MODEL), TRAINING, ours.optimizer)
    plain_params = plain_parameters(params)
    plain_state = ours.optimizer.init(plain_params)
    one_by_one = [[jax.device_put(padded(m)) for m in molecules] for molecules in batches]

    sums = ours.steps.evaluate(params, trimmed[0])["loss"]
    losses = [plain(plain_params, plain_state, molecule)[2] for molecule in one_by_one[0]]
    for batch in trimmed:
        ours.seconds(batch)

    def plainly(molecules):
        nonlocal plain_params, plain_state
        for molecule in molecules[:IN_A_ROW]:
            plain_params, plain_state, _ = plain(plain_params, plain_state, molecule)
        return plain_params

    found = [
        (ours.seconds(batch), seconds_of(plainly, molecules)[1] / IN_A_ROW)
        for _ in range(ROUNDS)
        for batch, molecules in zip(trimmed, one_by_one, strict=True)
    ]
    return *zip(*found, strict=True), (float(sums[TOTAL]), float(np.sum(losses)))


def published_times(folder):
    """Measures steps on real molecules of 15 to 17 atoms and the published ones in turn.

    Returns:
        Seconds per molecule of each step, ours and theirs.
    """
    few = [m for m in _molecules(_sample(folder), split="all") if len(m["positions"]) >= 15]
    molecules = [few[i % len(few)] for i in range(TRAINING.batch_size)]
    ours = _Ours(random_parameters(MODEL))
    batch = jax.device_put(make_batch(molecules))
    ours.seconds(batch)
    with published_steps(molecules[:IN_A_ROW], MODEL, TRAINING.esp_w) as seconds:
        found = [(ours.seconds(batch), seconds() / IN_A_ROW) for _ in range(ROUNDS)]
    return tuple(zip(*found, strict=True))


def run_times(folder):
    """Measures a whole run on few molecules, and the plain way's steps on the same ones.

    Returns:
        Seconds per molecule of each of the later epochs, by the epoch's own count and by the
        clock from one record to the next; and those of the plain way's steps.
    """
    store = _sample(folder)
    clock = _Clock()
    run_training(
        "few",
        store,
        out=str(folder),
        num_train=FEW,
        num_valid=14,
        batch_size=TRAINING.batch_size,
        num_epochs=EPOCHS,
        print_every_n_epochs=EPOCHS,
        max_degree=MODEL.max_degree,
        features=MODEL.features,
        n_dcm=MODEL.n_dcm,
        followers=[clock],
    )
    counted = [1 / record.molecules_per_second for record in clock.records]
    by_the_clock = np.diff(clock.ends) / FEW
    later = slice(EPOCHS // 2, None)
    return counted[later], by_the_clock[later], _plain_times(store)


class _Clock(Follower):
    """Notes when epochs end."""

    def __init__(self):
        self.records, self.ends = [], []

    def on_epoch(self, record):
        self.records.append(record)
        self.ends.append(time.perf_counter())


def _sample(folder):
    store = Path(folder) / "sample.zarr"
    ingest(sample_sources(), store)
    return store


def _molecules(store, **chosen):
    """Molecules of a store, as they are before they are made a batch."""
    for batch in make_loader(store, batch_size=1, **chosen):
        n_atoms, n_grid = int(batch.atom_mask.sum()), int(batch.grid_mask.sum())
        molecule = {"total_charge": batch.total_charge[0]}
        for name in ("atomic_numbers", "positions", "monopoles"):
            molecule[name] = getattr(batch, name)[0, :n_atoms]
        for name in ("esp", "vdw_surface"):
            molecule[name] = getattr(batch, name)[0, :n_grid]
        yield molecule


def _plain_times(store):
    optimizer = make_optimizer(TRAINING, make_schedule(TRAINING, 1))
    params = plain_parameters(random_parameters(MODEL))
    step, state = plain_step(PlainNetwork(MODEL), TRAINING, optimizer), optimizer.init(params)
    found = []
    for molecule in _molecules(store, max_molecules=FEW):
        (params, state, _), seconds = seconds_of(step, params, state, padded(molecule))
        found.append(seconds)
    return found[1:]
