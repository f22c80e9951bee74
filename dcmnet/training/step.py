"""The training step: pure functions of state and batch."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.export
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int

from dcmnet import model as networks
from dcmnet.config import LossConfig, ModelConfig, TrainingConfig
from dcmnet.experiment.state import TrainState
from dcmnet.model import Parameters
from dcmnet.model.compilation import ONCE
from dcmnet.model.observables import Observables, observe
from dcmnet.model.tracing import by_shape
from dcmnet.training.losses import molecule_losses
from dcmnet.training.optimizer import make_optimizer
from dcmnet.training.processes.devices import AXIS, BY_MOLECULE, SUMMED, Devices
from dcmnet.training.processes.reductions import in_one
from dcmnet.training.statistics import Sums, added_across, batch_statistics
from pipeline.loader import MoleculeBatch


class Gradient(NamedTuple):
    """Summed gradient of micro-batches: sums, so that unequal sizes weigh what they hold."""

    total: Parameters
    molecules: Int[Array, ""]


class BatchReport(NamedTuple):
    """What a batch leaves behind.

    Attributes:
        statistics: Sums of errors and losses.
        finite: Whether the loss of each molecule is finite; on several devices, empty
            molecules that fill them up stand behind.
    """

    statistics: dict[str, Sums]
    finite: Bool[Array, " B"]


for _kind in (Gradient, BatchReport):
    jax.export.register_namedtuple_serialization(_kind, serialized_name=f"dcmnet.{_kind.__name__}")


class StepReport(NamedTuple):
    """What a batch and its update leave behind; see ``BatchReport``."""

    statistics: dict[str, Sums]
    finite: Bool[Array, " B"]
    gradient_norm: Float[Array, ""]


class Steps(NamedTuple):
    """Compiled functions of a training run.

    Attributes:
        train: ``(state, batch) -> (state, report)``, those below in one; the state is donated.
        no_gradient: ``params -> gradient``, what the first batch of an update is added to.
        accumulate: ``(params, gradient, batch) -> (gradient, report)``.
        update: ``(state, gradient) -> (state, gradient_norm)``; the state is donated. It is
            compiled once, for all shapes of batches and all schedules.
        evaluate: ``(params, batch) -> statistics``.
        predict: ``(params, batch) -> observables``, on one device.
    """

    train: Callable[[TrainState, MoleculeBatch], tuple[TrainState, StepReport]]
    no_gradient: Callable[[Parameters], Gradient]
    accumulate: Callable[..., tuple[Gradient, BatchReport]]
    update: Callable[[TrainState, Gradient], tuple[TrainState, Float[Array, ""]]]
    evaluate: Callable[[Parameters, MoleculeBatch], dict[str, Sums]]
    predict: Callable[[Parameters, MoleculeBatch], Observables]


def initial_state(params: Parameters, optimizer: optax.GradientTransformation) -> TrainState:
    """Returns the state before the first update."""

    @functools.partial(jax.jit, compiler_options=ONCE)
    def state_of(params: Parameters) -> TrainState:
        return TrainState(
            params=params,
            ema_params=jax.tree.map(jnp.copy, params),  # donation forbids sharing a buffer
            optimizer_state=optimizer.init(params),
            updates=jnp.zeros((), jnp.int32),
        )

    return state_of(params)


def make_steps(
    model: ModelConfig,
    config: TrainingConfig,
    schedule: optax.Schedule,
    devices: Devices | None = None,
) -> Steps:
    """Compiles the functions of a training run.

    Args:
        model: The network.
        config: How it is trained.
        schedule: Learning rate for a number of updates.
        devices: What it runs on; all devices by default.
    """
    devices = devices or Devices()
    examine = functools.partial(_examine, model, config.loss)
    gradient_of = functools.partial(_gradient_of, examine)
    # One program to validate and to predict, where there is one device: it compiles for seconds.
    examine_on_one = by_shape(examine, "examine", model, config.loss)

    def evaluate(params: Parameters, batch: MoleculeBatch) -> dict[str, Sums]:
        return examine_on_one(params, batch)[1].statistics

    def predict(params: Parameters, batch: MoleculeBatch) -> Observables:
        return examine_on_one(params, batch)[2]

    if devices.count > 1:
        gradient_of_all, evaluate = _over(devices, gradient_of, examine)
        accumulate = devices.dealing(jax.jit(functools.partial(_added, gradient_of_all)))
    else:
        added = functools.partial(_added, gradient_of)
        accumulate = by_shape(added, "gradient", model, config.loss)
    no_gradient = jax.jit(_no_gradient)
    update_at = jax.jit(functools.partial(_update, config), donate_argnums=0)

    # The rate is computed apart, so that the program of an update is the same for any data.
    def update(state: TrainState, gradient: Gradient) -> tuple[TrainState, Float[Array, ""]]:
        return update_at(state, gradient, schedule(state.updates))

    def train(state: TrainState, batch: MoleculeBatch) -> tuple[TrainState, StepReport]:
        gradient, report = accumulate(state.params, no_gradient(state.params), batch)
        state, norm = update(state, gradient)
        return state, StepReport(report.statistics, report.finite, norm)

    return Steps(
        train=train,
        no_gradient=no_gradient,
        accumulate=accumulate,
        update=update,
        evaluate=evaluate,
        predict=predict,
    )


def _examine(
    model: ModelConfig, loss: LossConfig, params: Parameters, batch: MoleculeBatch
) -> tuple[Float[Array, " B"], BatchReport, Observables]:
    """Returns the loss of each molecule, the report, and what is predicted."""
    network = networks.create_model(model)
    predicted = observe(*networks.distributed_charges(network, params, batch), batch)
    losses = molecule_losses(predicted, batch, loss)
    of_molecule = jnp.sum(jnp.stack(list(losses.values())), axis=0)
    statistics = batch_statistics(predicted, batch, losses)
    return of_molecule, BatchReport(statistics, jnp.isfinite(of_molecule)), predicted


def _gradient_of(
    examine: Callable[..., tuple[Float[Array, " B"], BatchReport, Observables]],
    params: Parameters,
    batch: MoleculeBatch,
) -> tuple[Gradient, BatchReport]:
    def loss(params: Parameters) -> tuple[Float[Array, ""], BatchReport]:
        of_molecule, report, _ = examine(params, batch)
        return jnp.sum(of_molecule), report

    total, report = jax.grad(loss, has_aux=True)(params)
    return Gradient(total, jnp.sum(batch.molecule_mask)), report


def _added(
    gradient_of: Callable[..., tuple[Gradient, BatchReport]],
    params: Parameters,
    gradient: Gradient,
    batch: MoleculeBatch,
) -> tuple[Gradient, BatchReport]:
    new, report = gradient_of(params, batch)
    return jax.tree.map(jnp.add, gradient, new), report


def _update(
    config: TrainingConfig, state: TrainState, gradient: Gradient, rate: Float[Array, ""]
) -> tuple[TrainState, Float[Array, ""]]:
    """Returns the state after an update, and the norm of the mean gradient."""
    optimizer = make_optimizer(config, lambda _: rate)
    molecules = jnp.maximum(gradient.molecules, 1).astype(jnp.float32)
    mean = jax.tree.map(lambda g: g / molecules, gradient.total)
    changes, optimizer_state = optimizer.update(mean, state.optimizer_state, state.params)
    params = optax.apply_updates(state.params, changes)
    ema_params = _moved_average(state, params, config)
    new = TrainState(params, ema_params, optimizer_state, state.updates + 1)
    return new, optax.tree.norm(mean)


def _no_gradient(params: Parameters) -> Gradient:
    return Gradient(jax.tree.map(jnp.zeros_like, params), jnp.zeros((), jnp.int32))


def _over(
    devices: Devices,
    gradient_of: Callable[..., tuple[Gradient, BatchReport]],
    examine: Callable[..., tuple[Float[Array, " B"], BatchReport, Observables]],
) -> tuple[Callable[..., tuple[Gradient, BatchReport]], Callable[..., dict[str, Sums]]]:
    """Returns both functions for several devices; the second deals its batch to them."""

    def all_gradients(params: Parameters, part: MoleculeBatch) -> tuple[Gradient, BatchReport]:
        gradient, report = gradient_of(params, part)
        statistics = added_across(report.statistics, AXIS)
        total = in_one(functools.partial(jax.lax.psum, axis_name=AXIS), gradient)
        return total, BatchReport(statistics, report.finite)

    def all_statistics(params: Parameters, part: MoleculeBatch) -> dict[str, Sums]:
        return added_across(examine(params, part)[1].statistics, AXIS)

    return (
        devices.map(all_gradients, (SUMMED, BatchReport._make((SUMMED, BY_MOLECULE)))),
        devices.dealing(jax.jit(devices.map(all_statistics, SUMMED))),
    )


def _moved_average(state: TrainState, params: Parameters, config: TrainingConfig) -> Parameters:
    if not config.use_ema:
        return jax.tree.map(jnp.copy, params)
    # Early on the average follows closely, so that it forgets the random start.
    decay = jnp.minimum(config.ema_decay, (1.0 + state.updates) / (10.0 + state.updates))
    return optax.incremental_update(params, state.ema_params, 1.0 - decay)
