"""The Optuna study of a sweep: kept in its folder, shared by any number of processes."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta

import numpy as np
import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.storages import RDBStorage, RetryHeartbeatStaleTrialCallback
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from dcmnet.sweep.space import Sampling, SweepConfig

DATABASE_NAME = "study.db"
# User attributes of trials.
EXPERIMENT = "experiment"
PROBLEM = "problem"
# A silent trial is taken for dead after so many heartbeats that were due.
_PATIENCE = 3
# How often a trial that takes its process down with it is tried again.
_MAX_RETRIES = 5
_BUSY_SECONDS = 60.0


def open_study(space: SweepConfig) -> Study:
    """Opens the study of a sweep; begins it where there is none."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with _without_notices():
        storage = RDBStorage(
            f"sqlite:///{(space.folder / DATABASE_NAME).resolve()}",
            engine_kwargs={"connect_args": {"timeout": _BUSY_SECONDS}},
            heartbeat_interval=space.heartbeat_seconds,
            grace_period=_PATIENCE * space.heartbeat_seconds,
            heartbeat_stale_trial_callback=_retry(_MAX_RETRIES),
        )
        return optuna.create_study(
            storage=storage,
            study_name=space.name,
            direction="minimize",
            load_if_exists=True,
            pruner=_pruner(space),
            sampler=_sampler(space.sampler, 0),
        )


def seed_next(study: Study, space: SweepConfig) -> None:
    """Seeds the sampler for the next trial, by its number.

    So a sweep that was interrupted resumes as if it had not been, and processes next to
    each other do not choose the same values.
    """
    with _without_notices():
        study.sampler = _sampler(space.sampler, len(slots(study)))


def slots(study: Study) -> list[FrozenTrial]:
    """Returns the trials of a sweep in their order; of one taken up again, the last attempt."""
    found: dict[int, FrozenTrial] = {}
    for trial in study.get_trials(deepcopy=False):
        found[_first_attempt(trial)] = trial
    return list(found.values())


def number_of(study: Study, trial: FrozenTrial) -> int:
    """Returns the place of a trial in ``slots``, which attempts of others do not change."""
    numbers = [_first_attempt(slot) for slot in slots(study)]
    return numbers.index(_first_attempt(trial))


def is_attempted(trial: FrozenTrial) -> bool:
    """Tells whether another process has begun a trial before."""
    return _first_attempt(trial) != trial.number


def is_taken_up(study: Study, number: int) -> bool:
    """Tells whether another attempt has taken the place of a trial."""
    return all(trial.number != number for trial in slots(study))


def is_trial_left(study: Study, space: SweepConfig) -> bool:
    """Tells whether there is a trial to run: a new one, or one to take up again."""
    found = slots(study)
    return len(found) < space.trials or any(t.state is TrialState.WAITING for t in found)


def is_trial_running(study: Study) -> bool:
    """Tells whether a trial runs, in whichever process."""
    return any(trial.state is TrialState.RUNNING for trial in slots(study))


def take_up_dead_trials(study: Study, space: SweepConfig) -> None:
    """Puts trials whose process has died back in the line, with what they had reached."""
    with _without_notices():
        optuna.storages.fail_stale_trials(study)
    # One killed before its first heartbeat; Optuna does not see it.
    silent = datetime.now() - timedelta(seconds=_PATIENCE * space.heartbeat_seconds)
    for trial in slots(study):
        begun = trial.datetime_start
        is_running = trial.state is TrialState.RUNNING and EXPERIMENT not in trial.user_attrs
        if is_running and begun is not None and begun < silent:
            study.tell(trial.number, state=TrialState.FAIL)
            put_back(study, trial.number)


def put_back(study: Study, number: int) -> None:
    """Puts a trial that was stopped back in the line, with what it had reached."""
    _retry(None)(study, study.get_trials()[number])


def _first_attempt(trial: FrozenTrial) -> int:
    with _without_notices():
        attempts = RetryHeartbeatStaleTrialCallback.retry_history(trial)
    return attempts[0] if attempts else trial.number


def _retry(times: int | None) -> RetryHeartbeatStaleTrialCallback:
    with _without_notices():
        return RetryHeartbeatStaleTrialCallback(times, inherit_intermediate_values=True)


def _sampler(sampling: Sampling, number: int) -> optuna.samplers.BaseSampler:
    seed = int(np.random.SeedSequence([sampling.seed, number]).generate_state(1)[0])
    if sampling.kind == "random":
        return optuna.samplers.RandomSampler(seed=seed)
    return optuna.samplers.TPESampler(seed=seed, n_startup_trials=sampling.startup_trials)


def _pruner(space: SweepConfig) -> optuna.pruners.BasePruner:
    pruning = space.pruner
    least = pruning.warmup_epochs + 1  # the first epoch that a trial may end with
    if pruning.kind == "median":
        return optuna.pruners.MedianPruner(pruning.startup_trials, n_warmup_steps=least)
    if pruning.kind == "halving":
        return optuna.pruners.SuccessiveHalvingPruner(min_resource=least, reduction_factor=3)
    if pruning.kind == "hyperband":
        return optuna.pruners.HyperbandPruner(min_resource=least)
    return optuna.pruners.NopPruner()


@contextmanager
def _without_notices() -> Iterator[None]:
    """Keeps from the user that Optuna calls its heartbeats experimental."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        yield
