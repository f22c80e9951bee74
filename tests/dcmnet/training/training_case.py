"""A small training problem that the tests of steps, loop and checkpoints share.

One network, one shape of batch: XLA compiles each function once a module.
"""

import ase.units
import jax
import numpy as np

from dcmnet.config import TrainingConfig
from dcmnet.experiment.state import TrainState
from dcmnet.training.optimizer import make_optimizer, make_schedule
from dcmnet.training.step import initial_state, make_steps
from pipeline.loader import BatchShape, make_batch
from tests.molecules import SmallNetwork, random_molecule, without

SHAPE = BatchShape(molecules=6, atoms=5, grid_points=12, pairs=120)
CONFIG = TrainingConfig(
    num_epochs=4, learning_rate=3e-3, dipole_w=1.0, lr_schedule_type="cosine", ema_decay=0.9
)
UPDATES_PER_EPOCH = 50
# Charges that an element tends to, e: something that can be learnt.
_TENDENCY = {1: 0.2, 6: 0.0, 7: -0.3, 8: -0.4, 9: -0.3, 16: -0.1, 17: -0.2}


def make_case(config=CONFIG, **fields):
    """Returns a network with small parameters, and the compiled steps of a training."""
    model = SmallNetwork.make(num_iterations=1, **fields)
    schedule = jax.jit(make_schedule(config, UPDATES_PER_EPOCH))
    optimizer = make_optimizer(config, schedule)
    return model, optimizer, make_steps(model.config, config, schedule)


def new_state(model, optimizer) -> TrainState:
    """Returns a state of its own: steps donate what they are given."""
    return initial_state(jax.tree.map(jax.numpy.array, model.params), optimizer)


def molecules(n, seed=0):
    """Returns molecules of many sizes, targets of one origin; every third lacks monopoles."""
    rng = np.random.default_rng(seed)
    found = [
        _with_targets(random_molecule(rng, int(rng.integers(2, 6)), int(rng.integers(3, 13))))
        for _ in range(n)
    ]
    return [without(m, "monopoles") if i % 3 == 2 else m for i, m in enumerate(found)]


def _with_targets(molecule):
    charges = np.array([_TENDENCY[int(number)] for number in molecule["atomic_numbers"]])
    charges += (molecule["total_charge"] - charges.sum()) / len(charges)
    separation = molecule["vdw_surface"][:, None] - molecule["positions"]
    return {
        **molecule,
        "monopoles": charges,
        "esp": (ase.units.Bohr * charges / np.linalg.norm(separation, axis=-1)).sum(axis=1),
        "dipole": charges @ molecule["positions"],
    }


def batch_of(some):
    """Returns a batch of the shared shape."""
    return make_batch(some, SHAPE)


class CyclingBatches:
    """Endless batches, in an order of its own each epoch, whose place can be saved."""

    def __init__(self, batches):
        self.batches = batches
        self.place = 0

    def __next__(self):
        epoch, step = divmod(self.place, len(self.batches))
        self.place += 1
        return self.batches[np.random.default_rng(epoch).permutation(len(self.batches))[step]]

    def get_state(self):
        return {"place": self.place}

    def set_state(self, state):
        self.place = state["place"]
