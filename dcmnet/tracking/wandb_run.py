"""Weights & Biases: settings, metrics of every epoch, and how the run ended."""

from __future__ import annotations

import os
import uuid
from collections.abc import Sequence

import wandb
from typing_extensions import override

from dcmnet.config import ExperimentConfig
from dcmnet.experiment.directory import Experiment
from dcmnet.experiment.metrics import EpochRecord
from dcmnet.tracking.tensorboard import scalars_of
from dcmnet.tracking.tracked_run import TrackedRun, settings_of
from dcmnet.training.followers import Ending, Follower
from dcmnet.training.stopping import STOPPED

_NAME = "wandb"
# The project that runs are put into, where the environment names none.
_PROJECT = "dcmnet"
_EXIT_CODES = {"finished": 0, "stopped": STOPPED, "failed": 1}


class WeightsAndBiases(Follower):
    """Follows a run in Weights & Biases.

    ``WANDB_PROJECT``, ``WANDB_ENTITY`` and ``WANDB_MODE`` say where; with the mode
    ``offline`` it is the folder ``wandb`` of the experiment, to be sent by ``wandb sync``.
    Neither code nor console output is taken.
    """

    def __init__(self, experiment: Experiment) -> None:
        """Takes the experiment; nothing is opened yet."""
        self._experiment = experiment
        self._run: wandb.Run | None = None
        self._known = TrackedRun(run="")

    @override
    def on_start(self, config: ExperimentConfig, history: Sequence[EpochRecord]) -> None:
        known = TrackedRun.read(self._experiment, _NAME)
        self._known = known or TrackedRun(run=uuid.uuid4().hex)
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT") or _PROJECT,
            name=config.name,
            id=self._known.run,
            resume="allow",
            dir=self._experiment.directory,
            config=settings_of(config),
            settings=wandb.Settings(
                console="off",
                silent=True,
                disable_git=True,
                save_code=False,
                x_disable_machine_info=True,
                x_disable_stats=True,
            ),
        )
        self._known.write(self._experiment, _NAME)
        for record in history:
            self.on_epoch(record)

    @override
    def on_epoch(self, record: EpochRecord) -> None:
        if record.epoch <= self._known.epoch:  # reported before the run was killed
            return
        self._open.log({**scalars_of(record), "run/epoch": record.epoch}, step=record.epoch)
        self._known = self._known.model_copy(update={"epoch": record.epoch})
        self._known.write(self._experiment, _NAME)

    @override
    def on_end(self, ending: Ending) -> None:
        self._open.summary["ending"] = ending
        self._open.finish(exit_code=_EXIT_CODES[ending])

    @property
    def _open(self) -> wandb.Run:
        assert self._run is not None, "on_start comes first"
        return self._run
