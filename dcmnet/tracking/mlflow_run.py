"""MLflow: parameters, metrics of every epoch, and how the run ended."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence

from typing_extensions import override

from dcmnet.config import ExperimentConfig
from dcmnet.experiment.directory import Experiment
from dcmnet.experiment.metrics import EpochRecord
from dcmnet.tracking.tensorboard import scalars_of
from dcmnet.tracking.tracked_run import TrackedRun, settings_of
from dcmnet.training.followers import Ending, Follower

# MLflow reads these when it is imported. What a server that hangs may cost an epoch: its
# own defaults are 7 times 120 s. And it sends its makers nothing.
for _name, _value in {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}.items():
    os.environ.setdefault(_name, _value)

from mlflow import MlflowClient  # noqa: E402
from mlflow.entities import Metric, Param  # noqa: E402

_NAME = "mlflow"
# The project that runs are put into, where the environment names none.
_PROJECT = "dcmnet"
_STATUS = {"finished": "FINISHED", "stopped": "KILLED", "failed": "FAILED"}
_LAST = "run/epoch"


class MLflow(Follower):
    """Follows a run in MLflow.

    ``MLFLOW_TRACKING_URI`` and ``MLFLOW_EXPERIMENT_NAME`` say where; without, it is the
    SQLite file ``mlflow.db`` next to the experiments.
    """

    def __init__(self, experiment: Experiment) -> None:
        """Takes the experiment; nothing is opened yet."""
        self._experiment = experiment
        self._client: MlflowClient | None = None
        self._run, self._reported = "", 0

    @override
    def on_start(self, config: ExperimentConfig, history: Sequence[EpochRecord]) -> None:
        database = self._experiment.directory.resolve().parent / "mlflow.db"
        client = MlflowClient(os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{database}")
        known = TrackedRun.read(self._experiment, _NAME)
        if known is None:
            known = TrackedRun(run=self._begin(client, config))
            known.write(self._experiment, _NAME)
        client.update_run(known.run, status="RUNNING")
        self._client, self._run = client, known.run
        points = client.get_metric_history(known.run, _LAST)
        self._reported = max((point.step for point in points), default=0)
        for record in history:
            self.on_epoch(record)

    def _begin(self, client: MlflowClient, config: ExperimentConfig) -> str:
        project = os.environ.get("MLFLOW_EXPERIMENT_NAME") or _PROJECT
        found = client.get_experiment_by_name(project)
        place = found.experiment_id if found else client.create_experiment(project)
        run = client.create_run(place, run_name=config.name).info.run_id
        settings = settings_of(config).items()
        client.log_batch(run, params=[Param(name, str(value)) for name, value in settings])
        return run

    @override
    def on_epoch(self, record: EpochRecord) -> None:
        if record.epoch <= self._reported:  # before the run was killed, with the same numbers
            return
        now = int(1000 * time.time())
        # The epoch last: where it is, all of them are.
        scalars = {**scalars_of(record), _LAST: float(record.epoch)}
        metrics = [Metric(tag, value, now, record.epoch) for tag, value in scalars.items()]
        self._open.log_batch(self._run, metrics=metrics)
        self._reported = record.epoch

    @override
    def on_end(self, ending: Ending) -> None:
        self._open.set_terminated(self._run, _STATUS[ending])

    @property
    def _open(self) -> MlflowClient:
        assert self._client is not None, "on_start comes first"
        return self._client
