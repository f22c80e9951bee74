"""Optimiser and learning-rate schedule, put together from optax."""

from __future__ import annotations

import collections

import optax

from dcmnet.config import TrainingConfig

# The step schedule falls this often over the epochs after the warm-up.
_STEPS = 4
# Root mean square of Muon's steps at a rate of 1: near that of Adam, so that a rate suits both.
_STEP = 0.7


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


def make_optimizer(config: TrainingConfig, updates_per_epoch: int) -> optax.GradientTransformation:
    """Returns the optimiser on the schedule, behind clipping by the global norm where asked for.

    Adam works on all parameters as one vector: the network has dozens of small arrays, and an
    update of each costs more than one of all. Muon (Jordan et al., 2024) needs the matrices.
    """
    schedule = make_schedule(config, updates_per_epoch)
    clip = optax.clip_by_global_norm(config.grad_clip_norm) if config.use_grad_clip else None
    if config.optimizer == "muon":
        muon = optax.contrib.muon(schedule, consistent_rms=_STEP)
        return optax.chain(clip, muon) if clip else muon
    adam = optax.adam(schedule)
    return optax.flatten(optax.chain(clip, adam) if clip else adam)
