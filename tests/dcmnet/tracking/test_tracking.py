"""MLflow and Weights & Biases: their real clients, with local back ends."""

import io
import struct
import sys

import pytest
from rich.console import Console

pytest.importorskip("mlflow")
pytest.importorskip("wandb")

from mlflow import MlflowClient
from wandb.proto import wandb_internal_pb2

from dcmnet import run_training
from dcmnet.config import ExperimentConfig
from dcmnet.tracking.guard import Guarded, in_public
from dcmnet.tracking.tracked_run import settings_of
from dcmnet.train_runner import resume
from dcmnet.training.followers import Follower
from store_schema.problems import ConfigError
from tests.dcmnet.experiment.test_log import record
from tests.dcmnet.training.test_train_runner import interrupt, killed_before_its_checkpoint
from tests.experiments import SETTINGS, metrics

pytestmark = pytest.mark.distributed
EPOCHS = list(range(1, SETTINGS["num_epochs"] + 1))


@pytest.fixture
def local(monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME", "WANDB_PROJECT"):
        monkeypatch.delenv(name, raising=False)


def mlflow_run(folder):
    """Returns the client and the only run of the file beside the experiments."""
    client = MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")
    (run,) = client.search_runs([client.get_experiment_by_name("dcmnet").experiment_id])
    return client, run


def chunks(data):
    """Yields the entries of a log in LevelDB's format, behind the 7 bytes that W&B begins with."""
    place, entry = 7, b""
    while place + 7 <= len(data):
        left = 2**15 - place % 2**15  # of a block, which ends with zeros where no header fits
        if left < 7:
            place += left
            continue
        _, length, kind = struct.unpack("<IHB", data[place : place + 7])
        entry += data[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # whole, or the last part
            yield entry
            entry = b""


def wandb_records(directory):
    """Yields the records of every file that a run left, in the order of its starts."""
    for file in sorted(directory.glob("wandb/offline-run-*/*.wandb")):
        for entry in chunks(file.read_bytes()):
            found = wandb_internal_pb2.Record()
            found.ParseFromString(entry)
            yield found


def wandb_history(directory):
    """Returns the rows of its history, by their text."""
    rows = []
    for found in wandb_records(directory):
        if found.WhichOneof("record_type") == "history":
            items = found.history.item
            rows.append({"/".join(i.nested_key) or i.key: i.value_json for i in items})
    return rows


def assert_tracked_once(folder, directory):
    """Every epoch is there once, in one run, with the numbers of ``metrics.jsonl``."""
    lines = metrics(directory)
    client, run = mlflow_run(folder)
    assert run.info.status == "FINISHED"
    assert run.data.params["model.features"] == str(SETTINGS["features"])
    for name in ("esp_rmse", "loss"):
        points = client.get_metric_history(run.info.run_id, f"valid/{name}")
        assert [point.step for point in points] == EPOCHS
        assert [p.value for p in points] == pytest.approx([x["valid"][name] for x in lines])
    rows = wandb_history(directory)
    assert [int(row["run/epoch"]) for row in rows] == EPOCHS
    assert [float(row["valid/esp_rmse"]) for row in rows] == pytest.approx(
        [line["valid"]["esp_rmse"] for line in lines]
    )
    ids = {r.run.run_id for r in wandb_records(directory) if r.WhichOneof("record_type") == "run"}
    assert len(ids) == 1


def test_a_run_is_followed_to_its_end(local, sample_store, tmp_path):
    fields = {**SETTINGS, "out": str(tmp_path), "track": ["mlflow", "wandb"]}
    assert_tracked_once(tmp_path, run_training("a", sample_store, **fields)[2])


def test_a_run_that_was_killed_goes_on_as_the_same_one(local, sample_store, tmp_path, monkeypatch):
    fields = {**SETTINGS, "out": str(tmp_path), "track": ["mlflow", "wandb"]}
    with monkeypatch.context() as patch:
        interrupt(patch, killed_before_its_checkpoint)
        with pytest.raises(KeyboardInterrupt):
            run_training("a", sample_store, **fields)
    assert mlflow_run(tmp_path)[1].info.status == "KILLED"
    assert_tracked_once(tmp_path, resume(tmp_path / "a")[2])


class Flaky(Follower):
    """Fails from one epoch on, until the end."""

    def __init__(self, fails_at):
        self.fails_at, self.told, self.ending = fails_at, [], None

    def on_epoch(self, record):
        if record.epoch == self.fails_at:
            self.fails_at = None
            raise OSError("no route to https://someone:secret@host/path?token=secret")
        self.told.append(record.epoch)

    def on_end(self, ending):
        self.ending = ending


def test_a_tracker_that_fails_warns_once_and_is_told_at_the_end():
    page, flaky = io.StringIO(), Flaky(fails_at=2)
    guarded = Guarded("flaky", flaky, Console(file=page, width=200))
    guarded.on_start(ExperimentConfig(name="a"), [])
    for epoch in (1, 2, 3):
        guarded.on_epoch(record(epoch))
    assert flaky.told == [1]
    guarded.on_end("finished")
    assert (flaky.told, flaky.ending) == ([1, 2, 3], "finished")
    assert page.getvalue().count("Warning") == 1
    assert "secret" not in page.getvalue()


def test_no_credentials_are_logged():
    assert in_public("s3://key:secret@bucket/a?token=x#y") == "s3://bucket/a"
    config = ExperimentConfig(name="a").with_fields({"data.store": "s3://key:secret@bucket/a"})
    assert "secret" not in repr(settings_of(config))


@pytest.mark.parametrize("name", ["mlflow", "wandb"])
def test_a_missing_package_is_told_before_training(name, sample_store, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, name, None)
    for module in [m for m in sys.modules if m.startswith("dcmnet.tracking.") and name in m]:
        monkeypatch.delitem(sys.modules, module)
    fields = {**SETTINGS, "out": str(tmp_path), "track": [name]}
    with pytest.raises(ConfigError, match=rf"dcm-store\[{name}\]"):
        run_training("a", sample_store, **fields)
    assert not (tmp_path / "a").exists()
