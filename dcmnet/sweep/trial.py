"""A trial of a sweep: an experiment like any other, which its study may end early."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import optuna
from optuna.study import Study
from optuna.trial import FrozenTrial, Trial
from pydantic import BaseModel, ConfigDict
from rich.console import Console
from typing_extensions import override

from dcmnet.config import ExperimentConfig
from dcmnet.experiment.directory import Experiment
from dcmnet.experiment.metrics import EpochRecord
from dcmnet.sweep.space import Choice, Distribution, FloatRange, SweepConfig, Value
from dcmnet.sweep.study import EXPERIMENT, is_attempted, number_of
from dcmnet.train_runner import resume, run_training
from dcmnet.training.followers import Ending, Follower
from dcmnet.training.loop import criterion
from pipeline.files import exclusive, write_text
from store_schema.problems import ConfigError

RECORD_NAME = "trial.json"


class TrialRecord(BaseModel):
    """``trial.json``: what an experiment is in its sweep.

    Attributes:
        sweep: Name of the sweep.
        number: Number of the trial.
        state: ``pruned`` where the sweep ended it early; else how training ended.
        values: What was chosen for this trial.
        best: Lowest validation metric so far; None before the first epoch.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    sweep: str
    number: int
    state: Literal["running", "pruned"] | Ending
    values: dict[str, Value]
    best: float | None


class TrialFollower(Follower):
    """Reports each epoch to the study, and ends the run when the study prunes it.

    Attributes:
        best: Lowest validation metric so far.
        is_pruned: Whether the study has ended the trial.
    """

    def __init__(self, study: Study, trial: Trial, space: SweepConfig) -> None:
        """Takes a trial whose values have been chosen."""
        self._study, self._trial, self._space = study, trial, space
        self.best = math.inf
        self.is_pruned = False
        self._last_epoch = 0

    @override
    def on_start(self, config: ExperimentConfig, history: Sequence[EpochRecord]) -> None:
        self._last_epoch = config.training.num_epochs
        for record in history:
            self.on_epoch(record)
        self._mark("running")

    @override
    def on_epoch(self, record: EpochRecord) -> None:
        value = _metric(record, self._space.metric)
        self.best = min(self.best, value)
        if record.epoch not in self._frozen().intermediate_values:
            self._trial.report(value, record.epoch)
        # After its last epoch there is nothing left to save.
        is_last = record.epoch >= self._last_epoch
        self.is_pruned = not is_last and bool(self._trial.should_prune())  # NumPy's, now and then

    @override
    def on_end(self, ending: Ending) -> None:
        self._mark("pruned" if self.is_pruned and ending == "stopped" else ending)

    @override
    def enough(self) -> bool:
        return self.is_pruned

    def _frozen(self) -> FrozenTrial:
        return self._study.get_trials(deepcopy=False)[self._trial.number]

    def _mark(self, state: Literal["running", "pruned"] | Ending) -> None:
        record = TrialRecord(
            sweep=self._space.name,
            number=number_of(self._study, self._frozen()),
            state=state,
            values=self._trial.params,
            best=self.best if math.isfinite(self.best) else None,
        )
        path = self._space.folder / self._trial.user_attrs[EXPERIMENT] / RECORD_NAME
        write_text(path, record.model_dump_json(indent=2) + "\n")


def name_experiment(study: Study, trial: Trial, space: SweepConfig) -> None:
    """Names the experiment of a trial; one that is taken up again keeps its own."""
    if EXPERIMENT not in trial.user_attrs:
        frozen = study.get_trials(deepcopy=False)[trial.number]
        trial.set_user_attr(EXPERIMENT, f"{space.name}-{number_of(study, frozen):03d}")


def run_trial(study: Study, trial: Trial, space: SweepConfig) -> float:
    """Trains with values that the study chooses; resumes where an earlier attempt stopped.

    Returns:
        The lowest validation metric of an epoch.

    Raises:
        TrialPruned: The study ended it early.
        ConfigError: The values do not go together, or there is no such metric.
        TrainingError: Training failed.
        UpdateFinishedTrialError: The trial was silent for so long that another process
            has taken it up.
    """
    name, frozen = trial.user_attrs[EXPERIMENT], study.get_trials(deepcopy=False)[trial.number]
    values = {field: _choose(trial, field, kind) for field, kind in space.search.items()}
    follower = TrialFollower(study, trial, space)
    directory, quiet = space.folder / name, Console(quiet=True)
    if is_attempted(frozen) and Experiment(directory).config_path.exists():
        # One that was only slow leaves at the end of its epoch, when it finds itself replaced.
        with exclusive(directory, wait=True):
            pass
        resume(directory, quiet, [follower])
    else:
        config = space.experiment(values)
        run_training(
            name,
            space.store,
            config=config,
            console=quiet,
            followers=[follower],
            out=str(space.folder),
        )
    if follower.is_pruned:
        raise optuna.TrialPruned
    return follower.best


def _choose(trial: Trial, field: str, searched: Distribution) -> Value:
    if isinstance(searched, Choice):
        return trial.suggest_categorical(field, searched.values)
    if isinstance(searched, FloatRange):
        return trial.suggest_float(field, searched.low, searched.high, log=searched.log)
    return trial.suggest_int(
        field, searched.low, searched.high, log=searched.log, step=searched.step
    )


def _metric(record: EpochRecord, name: str | None) -> float:
    if name is None:
        return criterion(record)
    metrics = record.valid or record.train
    if name not in metrics:
        raise ConfigError.of(
            f"sweep, metric {name!r}",
            wrong="training has no metric of this name",
            consequence="the trial has failed",
            remedy=f"Choose one of {', '.join(metrics)}",
        )
    return metrics[name]
