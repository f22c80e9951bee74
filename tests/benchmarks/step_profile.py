"""Where the time of a training step goes: ``python -m tests.benchmarks.step_profile STORE``.

Each part is compiled on its own and timed in turn with the others. Bytes and flops are XLA's
count, per molecule, in which a loop over blocks counts once. ``--features``, ``--charges`` and
``--batch`` change the network and the batch, which is the first of the store's training split.
"""

import argparse

import jax
import jax.numpy as jnp
import numpy as np

from dcmnet.config import ModelConfig, TrainingConfig
from dcmnet.model import create_model, distributed_charges
from dcmnet.model.compilation import set_up_compilation
from dcmnet.model.initialization import initial_parameters
from dcmnet.model.observables import observe
from dcmnet.training.losses import molecule_losses
from dcmnet.training.optimizer import make_optimizer, make_schedule
from dcmnet.training.statistics import batch_statistics
from dcmnet.training.step import initial_state, make_steps
from pipeline import make_loader
from tests.benchmarks.step_speed import seconds_of

ROUNDS = 60


def parts_of(model, training, batch):
    """Returns each part of a step: a function of one argument, and that argument."""
    network = create_model(model)
    params = initial_parameters(model, 0)
    schedule = jax.jit(make_schedule(training, 1))
    optimizer = make_optimizer(training, schedule)
    steps, state = make_steps(model, training, schedule), initial_state(params, optimizer)
    gradient = steps.no_gradient(params)
    charges = distributed_charges(network, params, batch)
    predicted = observe(*charges, batch)
    losses = molecule_losses(predicted, batch, training)

    def of_network(params):
        return sum(map(jnp.sum, distributed_charges(network, params, batch)))

    def of_esp(charges):
        losses = molecule_losses(observe(*charges, batch), batch, training)
        return sum(map(jnp.sum, losses.values()))

    return {
        "network, forward": (lambda p: distributed_charges(network, p, batch), params),
        "network, forward and backward": (jax.grad(of_network), params),
        "ESP of the charges, forward": (lambda c: observe(*c, batch), charges),
        "ESP and losses, forward and backward": (jax.grad(of_esp), charges),
        "statistics of the errors": (lambda p: batch_statistics(p, batch, losses), predicted),
        "clipping, Adam, moving average": (lambda s: steps.update(s, gradient), state),
        "gradient of the whole step": (lambda p: steps.accumulate(p, gradient, batch), params),
    }


def main():
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("store")
    parser.add_argument("--features", type=int, default=32)
    parser.add_argument("--charges", type=int, default=2)
    parser.add_argument("--batch", type=int, default=32)
    chosen = parser.parse_args()
    set_up_compilation()
    model = ModelConfig(features=chosen.features, n_dcm=chosen.charges)
    loader = make_loader(chosen.store, batch_size=chosen.batch, cutoff=model.cutoff)
    batch = jax.device_put(next(iter(loader)))
    parts = parts_of(model, TrainingConfig(batch_size=chosen.batch), batch)
    compiled = {name: jax.jit(f).lower(given).compile() for name, (f, given) in parts.items()}
    seconds = {name: [] for name in parts}
    for _ in range(ROUNDS):
        for name, (_, given) in parts.items():
            seconds[name].append(seconds_of(compiled[name], given)[1])
    print(f"{batch.shape}\n{'part':38}{'ms':>8}{'MB':>8}{'Mflop':>8}")
    for name, program in compiled.items():
        counts = program.cost_analysis()
        megas = [counts[what] / 1e6 / chosen.batch for what in ("bytes accessed", "flops")]
        print(f"{name:38}{1e3 * np.median(seconds[name]):8.1f}{megas[0]:8.1f}{megas[1]:8.1f}")


if __name__ == "__main__":
    main()
