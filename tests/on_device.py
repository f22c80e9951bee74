"""What tests compute on a device of choice, in a process of its own.

Tests run on the processor, as the environment says before JAX is imported. Only a new
process can take a card. With ``DCMNET_CARD=cpu`` the processor stands in for the card,
to try the tests themselves.
"""

import os
import shutil
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np

CPU, CARD = "cpu", os.environ.get("DCMNET_CARD", "cuda")


def has_card():
    """Whether there is a card, or something that stands in for it."""
    return CARD == CPU or shutil.which("nvidia-smi") is not None


def on(platform, function, *arguments):
    """Calls a function of this module, or of one that imports JAX no earlier, on a platform."""
    context = get_context("spawn")
    with ProcessPoolExecutor(1, context, initializer=_take, initargs=(platform,)) as pool:
        return pool.submit(function, *arguments).result()


def _take(platform):
    os.environ["JAX_PLATFORMS"] = platform


def some_molecules(n=6, seed=0):
    """Molecules of 3 to 20 atoms with every target."""
    from tests.molecules import random_molecule

    rng = np.random.default_rng(seed)
    return [
        random_molecule(rng, int(rng.integers(3, 21)), int(rng.integers(100, 400)))
        for _ in range(n)
    ]


def loss_and_gradient(features, double=False):
    """Returns charges, positions, ESP, losses and the gradient by the parameters."""
    import jax
    import jax.numpy as jnp

    from dcmnet.config import ModelConfig, TrainingConfig
    from dcmnet.model import create_model, distributed_charges
    from dcmnet.model.observables import observe
    from dcmnet.training.losses import molecule_losses
    from pipeline.loader import make_batch
    from tests.molecules import random_parameters

    model = ModelConfig(features=features, n_dcm=2)
    network = create_model(model)
    params, batch = random_parameters(model), make_batch(some_molecules())
    config = TrainingConfig(dipole_w=1.0, quadrupole_w=1.0)
    if double:
        params, batch = (
            jax.tree.map(lambda a: a.astype(np.float64) if a.dtype.kind == "f" else a, tree)
            for tree in (jax.device_get(params), batch)
        )

    def loss(params, batch):
        charges, positions = distributed_charges(network, params, batch)
        predicted = observe(charges, positions, batch)
        losses = molecule_losses(predicted, batch, config)
        return sum(jnp.sum(term) for term in losses.values()), (charges, positions, predicted.esp)

    with jax.enable_x64(double):
        run = jax.jit(jax.value_and_grad(loss, has_aux=True))
        (value, predicted), gradient = run(params, batch)
        found = jax.device_get((predicted, value, gradient))
    return found, str(jax.devices()[0].platform)


def published_predictions(folder, n_dcm):
    """Returns what published parameters predict, and what they predicted when published."""
    import jax

    from dcmnet.model import create_model
    from dcmnet.model.published import read_published
    from pipeline.loader import make_batch

    config, params = read_published(Path(folder) / f"dcm{n_dcm}_params.pkl")
    names = ("atomic_numbers", "positions", "charges", "charge_positions")
    with np.load(Path(folder) / f"dcm{n_dcm}_predictions.npz") as file:
        expected = [{name: file[f"{i}/{name}"] for name in names} for i in range(12)]
    batch = make_batch([{name: m[name] for name in names[:2]} for m in expected])
    apply = jax.jit(create_model(config).apply, static_argnums=2)
    charges, positions = jax.device_get(apply(params, batch, False))
    sizes = [len(m["atomic_numbers"]) for m in expected]
    found = [(charges[i, :n], positions[i, :n]) for i, n in enumerate(sizes)]
    return found, [(m["charges"], m["charge_positions"]) for m in expected]


def trained(store, out, *, epochs=2, stop_after=None, resume=False):
    """Trains, or resumes, on this process's device; returns metrics and the last parameters."""
    import jax

    from dcmnet import load_model, run_training
    from dcmnet.training.followers import Follower
    from tests.experiments import metrics

    class Stop(Follower):
        """Ends the run after an epoch, as a sweep does; it can be resumed."""

        def __init__(self):
            self.epoch = 0

        def on_epoch(self, record):
            self.epoch = record.epoch

        def enough(self):
            return self.epoch == stop_after

    settings = {"features": 8, "max_degree": 1, "num_iterations": 1, "num_basis_functions": 8}
    run_training(
        "trial",
        store,
        out=out,
        num_epochs=epochs,
        num_train=64,
        num_valid=16,
        batch_size=8,
        seed=3,
        resume=resume,
        followers=[Stop()],
        **settings,
    )
    directory = Path(out) / "trial"
    return metrics(directory), jax.device_get(load_model(directory, "latest").params)
