"""Which trackers follow a run, and what is the same for all of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict
from rich.console import Console

from dcmnet.config import ExperimentConfig, Tracker
from dcmnet.experiment import Experiment
from dcmnet.tracking.guard import Guarded, in_public
from dcmnet.training.followers import Follower
from dcmnet.training.tensorboard import ScalarWriter, TensorBoard
from dcmnet.whole_files import write_text
from store_schema.extras import extra


class TrackedRun(BaseModel):
    """What a tracker calls the run of an experiment, kept in ``tracked/NAME.json``.

    Attributes:
        run: Its identity there; a run that goes on keeps it.
        epoch: The last epoch that it was told of.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    run: str
    epoch: int = 0

    @staticmethod
    def path(experiment: Experiment, name: str) -> Path:
        """Returns where it is kept."""
        return experiment.directory / "tracked" / f"{name}.json"

    @classmethod
    def read(cls, experiment: Experiment, name: str) -> TrackedRun | None:
        """Reads it; None where the tracker has not followed the experiment yet."""
        path = cls.path(experiment, name)
        return cls.model_validate_json(path.read_text()) if path.exists() else None

    def write(self, experiment: Experiment, name: str) -> None:
        """Keeps it."""
        path = self.path(experiment, name)
        path.parent.mkdir(exist_ok=True)
        write_text(path, self.model_dump_json() + "\n")


def make_trackers(
    experiment: Experiment,
    names: Sequence[Tracker],
    console: Console,
    writer: ScalarWriter | None = None,
) -> list[Follower]:
    """Returns the trackers of a run, none of which can stop it once it has begun.

    Args:
        experiment: The experiment.
        names: Trackers beside TensorBoard.
        console: Where they warn.
        writer: Where TensorBoard's numbers go; files in the experiment by default.

    Raises:
        ConfigError: The packages of a tracker are missing.
    """
    found: dict[str, Follower] = {"tensorboard": TensorBoard(experiment.tensorboard_path, writer)}
    for name in names:
        with extra(name, f"--track {name}"):
            if name == "mlflow":
                from dcmnet.tracking.mlflow_run import MLflow

                found[name] = MLflow(experiment)
            else:
                from dcmnet.tracking.wandb_run import WeightsAndBiases

                found[name] = WeightsAndBiases(experiment)
    return [Guarded(name, tracker, console) for name, tracker in found.items()]


def settings_of(config: ExperimentConfig) -> dict[str, Any]:
    """Returns all fields by their dotted names, without credentials in URLs."""
    fields: dict[str, Any] = {}
    for name, value in config.model_dump(mode="json").items():
        inner = value if isinstance(value, dict) else {"": value}
        fields |= {f"{name}.{key}".strip("."): part for key, part in inner.items()}
    return {k: in_public(v) if isinstance(v, str) else v for k, v in fields.items()}
