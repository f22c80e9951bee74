"""Optimiser and learning-rate schedule, put together from optax."""

from __future__ import annotations

import collections
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import optax
from jax.flatten_util import ravel_pytree
from jaxtyping import Array

from dcmnet.config import TrainingConfig

# The step schedule falls this often over the epochs after the warm-up.
_STEPS = 4
# Root mean square of Muon's steps at a rate of 1: near that of Adam, so that a rate suits both.
_STEP = 0.7
_VECTOR = "vector"


def make_schedule(config: TrainingConfig, updates_per_epoch: int) -> optax.Schedule:
    """Returns the learning rate as a function of the number of updates.

    A linear warm-up over ``warmup_epochs`` is followed by a decay to
    ``learning_rate * min_lr_factor`` over the remaining epochs: along a half cosine,
    exponentially, or in equal steps of a constant factor.
    """
    peak = config.learning_rate
    warmup = config.warmup_epochs * updates_per_epoch
    decay = max(config.num_epochs * updates_per_epoch - warmup, 1)
    kind = config.lr_schedule_type if config.use_lr_schedule else "constant"
    # A decay to zero by factors needs a floor above zero.
    floor = max(config.min_lr_factor, 1e-6)
    if kind == "constant":
        after: optax.Schedule = optax.constant_schedule(peak)
    elif kind == "cosine":
        after = optax.cosine_decay_schedule(peak, decay, alpha=config.min_lr_factor)
    elif kind == "exponential":
        after = optax.exponential_decay(peak, decay, floor, end_value=peak * floor)
    else:
        # In a handful of updates several steps fall together.
        falls = collections.Counter(max(1, decay * (i + 1) // (_STEPS + 1)) for i in range(_STEPS))
        after = optax.piecewise_constant_schedule(
            peak, {update: floor ** (steps / _STEPS) for update, steps in falls.items()}
        )
    if not warmup:
        return after
    rise = optax.linear_schedule(0.0, peak, warmup)
    return optax.join_schedules([rise, after], [warmup])


def make_optimizer(
    config: TrainingConfig, schedule: optax.ScalarOrSchedule
) -> optax.GradientTransformation:
    """Returns the optimiser, behind clipping by the global norm where asked for.

    The network has dozens of small arrays, and an update of each costs more than one of all:
    Adam works on them as one vector, Muon (Jordan et al., 2024) on a stack per shape of matrix
    and a vector of all else, which Adam moves with Nesterov's momentum.

    Args:
        config: Which one.
        schedule: Learning rate, or what returns it for a number of updates.
    """
    clip = optax.clip_by_global_norm(config.grad_clip_norm) if config.use_grad_clip else None
    decay = config.weight_decay
    if config.optimizer == "adam":
        adam = optax.adamw(schedule, weight_decay=decay) if decay else optax.adam(schedule)
        return optax.flatten(optax.chain(clip, adam) if clip else adam)
    muon = optax.contrib.muon(
        schedule,
        weight_decay=decay,
        adam_weight_decay=decay,
        consistent_rms=_STEP,
        muon_weight_dimension_numbers=_axes_of_stacks,
    )
    return _on_stacks(optax.chain(clip, muon) if clip else muon)


def _on_stacks(inner: optax.GradientTransformation) -> optax.GradientTransformation:
    """Returns a transformation that sees a stack per shape of matrix, and a vector of all else."""

    def init(params: optax.Params) -> optax.OptState:
        return inner.init(_stacked(params))

    def update(
        updates: optax.Updates, state: optax.OptState, params: optax.Params | None = None
    ) -> tuple[optax.Updates, optax.OptState]:
        stacks, state = inner.update(
            _stacked(updates), state, None if params is None else _stacked(params)
        )
        return _unstacked(stacks, updates), state

    return optax.GradientTransformation(init, update)


def _stacked(tree: optax.Params) -> dict[str, Array]:
    groups = collections.defaultdict[str, list[Array]](list)
    for leaf in jax.tree.leaves(tree):
        groups[_group_of(leaf)].append(leaf)
    vector, _ = ravel_pytree(groups.pop(_VECTOR, []))
    return {**{name: jnp.stack(matrices) for name, matrices in groups.items()}, _VECTOR: vector}


def _unstacked(stacks: Mapping[str, Array], like: optax.Params) -> optax.Params:
    leaves, structure = jax.tree.flatten(like)
    _, parts_of = ravel_pytree([leaf for leaf in leaves if _group_of(leaf) == _VECTOR])
    left = {
        name: iter(parts_of(stack) if name == _VECTOR else stack) for name, stack in stacks.items()
    }
    return jax.tree.unflatten(structure, [next(left[_group_of(leaf)]) for leaf in leaves])


def _group_of(leaf: Array) -> str:
    return str(leaf.shape) if leaf.ndim == 2 else _VECTOR


def _axes_of_stacks(
    stacks: Mapping[str, object],
) -> dict[str, optax.contrib.MuonDimensionNumbers | None]:
    of_matrices = optax.contrib.MuonDimensionNumbers(reduction_axis=1, output_axis=2)
    return {name: None if name == _VECTOR else of_matrices for name in stacks}
