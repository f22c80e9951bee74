"""The best parameters can be read while a training run replaces them."""

import threading

import jax
import jax.numpy as jnp
import numpy as np
import optax

from dcmnet import load_model
from dcmnet.experiment.checkpoints import Checkpoints
from dcmnet.experiment.directory import Experiment
from dcmnet.experiment.state import Progress
from dcmnet.training.optimizer import make_optimizer
from dcmnet.training.step import initial_state
from tests.experiments import copy

REPLACED = 6


def test_the_best_is_read_while_it_is_replaced(trained, tmp_path):
    directory = copy(trained[2], tmp_path / "trial")
    experiment, first = Experiment(directory), load_model(directory)
    optimizer = make_optimizer(experiment.config().training, optax.constant_schedule(1e-3))
    read = threading.Event()

    def replace_again_and_again():
        epoch = 100
        with Checkpoints(experiment.checkpoints_path) as checkpoints:
            while not read.is_set():
                params = jax.tree.map(lambda leaf, e=epoch: jnp.full_like(leaf, e), first.params)
                state = initial_state(params, optimizer)
                checkpoints.save("best", epoch, state, Progress(epoch=epoch))
                checkpoints.wait()
                epoch += 1

    trainer = threading.Thread(target=replace_again_and_again)
    trainer.start()
    try:
        found = [first]
        while len({model.epoch for model in found}) < REPLACED:
            found.append(load_model(directory))
    finally:
        read.set()
        trainer.join()
    epochs = [model.epoch for model in found]
    assert epochs == sorted(epochs)
    for model in found:
        if model.epoch >= 100:
            jax.tree.map(
                lambda leaf, e=model.epoch: np.testing.assert_array_equal(leaf, e), model.params
            )
