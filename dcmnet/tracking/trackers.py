"""Which trackers follow a run, and that they cannot stop it."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console

from dcmnet.config import Tracker
from dcmnet.experiment.directory import Experiment
from dcmnet.tracking.guard import Guarded
from dcmnet.tracking.tensorboard import ScalarWriter, TensorBoard
from dcmnet.training.followers import Follower
from store_schema.extras import extra


def make_trackers(
    experiment: Experiment,
    names: Sequence[Tracker],
    console: Console,
    writer: ScalarWriter | None = None,
) -> list[Follower]:
    """Returns the trackers of a run, none of which can stop it once it has begun.

    Args:
        experiment: The experiment.
        names: Trackers besides TensorBoard.
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
