"""A process of a sweep: runs trials until none is left, next to any number of others."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack

from jax.errors import JaxRuntimeError
from optuna.exceptions import UpdateFinishedTrialError
from optuna.study import Study
from optuna.trial import Trial, TrialState
from rich.console import Console

from dcmnet.sweep.outcome import print_trial
from dcmnet.sweep.space import SweepConfig
from dcmnet.sweep.study import (
    PROBLEM,
    is_taken_up,
    is_trial_left,
    is_trial_running,
    number_of,
    open_study,
    put_back,
    seed_next,
    take_up_dead_trials,
)
from dcmnet.sweep.trial import name_experiment, run_trial
from dcmnet.training.processes.launcher import COUNT
from dcmnet.training.stopping import STOPPED, stop_on_sigterm
from pipeline.files import exclusive
from store_schema.problems import DcmError

SPACE_NAME = "sweep.json"
_LOOK_AGAIN_SECONDS = 1.0


class _StoppedError(Exception):
    """SIGTERM stopped the training of a trial, which is saved."""


def work(space: SweepConfig, console: Console) -> None:
    """Runs trials until none is left and none runs in another process either.

    Raises:
        SystemExit: SIGTERM asked to stop; the trial is saved and put back in the line.
        KeyboardInterrupt: Likewise.
    """
    # A trial trains in this process alone, also where a launcher started several for the sweep.
    os.environ[COUNT] = "1"
    study = open_study(space)
    with stop_on_sigterm() as stop:
        while True:
            with ExitStack() as turn:
                # One process at a time counts the trials, and begins one.
                turn.enter_context(exclusive(space.folder, wait=True))
                take_up_dead_trials(study, space)
                if is_trial_left(study, space):
                    _next_trial(study, space, turn.close, console)
                elif not is_trial_running(study):
                    return
            if stop():
                sys.exit(STOPPED)
            time.sleep(_LOOK_AGAIN_SECONDS if not is_trial_left(study, space) else 0.0)


def _next_trial(
    study: Study, space: SweepConfig, on_record: Callable[[], None], console: Console
) -> None:
    """Runs the next trial.

    Args:
        study: The study.
        space: The sweep.
        on_record: Called when the trial has been recorded as running.
        console: Where its outcome is printed.
    """
    begun: list[int] = []

    def objective(trial: Trial) -> float:
        begun.append(trial.number)
        name_experiment(study, trial, space)
        on_record()
        try:
            return run_trial(study, trial, space)
        except (DcmError, JaxRuntimeError) as error:
            trial.set_user_attr(PROBLEM, " ".join(str(error).split())[:500])
            raise
        except SystemExit as error:
            if error.code != STOPPED:
                raise
            raise _StoppedError from error

    seed_next(study, space)
    try:
        study.optimize(objective, n_trials=1, catch=(DcmError, JaxRuntimeError))
    except (_StoppedError, KeyboardInterrupt) as error:
        for number in begun:
            put_back(study, number)
        if isinstance(error, KeyboardInterrupt):
            raise
        sys.exit(STOPPED)
    except (UpdateFinishedTrialError, ValueError):
        # Silent for too long, as when the machine slept: another process has it now.
        if not (begun and is_taken_up(study, begun[0])):
            raise
        return
    trial = study.get_trials(deepcopy=False)[begun[0]]
    if trial.state is not TrialState.RUNNING:
        print_trial(number_of(study, trial), trial, console)
