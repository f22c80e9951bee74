"""One training on several stores: by the ratio, judged by the first, reported for each."""

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from dcmnet import run_training
from dcmnet.cli import app
from dcmnet.config import ExperimentConfig
from dcmnet.experiment.directory import Experiment
from dcmnet.train_runner import make_config, resume
from dcmnet.training.loop import criterion
from store_schema.problems import ConfigError, TrainingError
from tests.dcmnet.training.test_train_runner import asked_to_stop, interrupt
from tests.experiments import SETTINGS, metrics
from tests.stores import random_columns, write_store

FIELDS = {**SETTINGS, "batch_size": 4, "num_epochs": 2, "grid_points": 6}


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    """Two of them, with elements of their own."""
    folder = tmp_path_factory.mktemp("stores")
    paths = []
    for index, (size, elements) in enumerate([(24, (1, 6)), (60, (1, 8))]):
        rng = np.random.default_rng(index)
        columns = random_columns(rng, rng.integers(3, 7, size), rng.integers(8, 20, size), 0.0)
        real = columns["atomic_numbers"] > 0
        columns["atomic_numbers"] = np.where(real, rng.choice(elements, real.shape), 0)
        columns["atomic_numbers"] = columns["atomic_numbers"].astype(np.int32)
        split = ["train", "train", "valid"] * (size // 3)
        paths.append(str(write_store(folder / f"{index}.zarr", columns, split=split)))
    return paths


@pytest.fixture(scope="module")
def run(stores, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs")
    return run_training("both", stores, ratio=[1, 2], out=str(out), **FIELDS)


def test_the_first_store_decides_and_each_is_reported(run, stores):
    experiment = Experiment(run[2])
    history = experiment.history()
    config = experiment.config()
    assert config.data.stores == tuple(stores)
    assert config.data.ratio == (1.0, 2.0)
    for record in history:
        assert set(record.valid_of_others) == {stores[1]}
        assert record.valid_of_others[stores[1]]["esp_rmse"] > 0
    assert run[1] == min(criterion(record) for record in history)
    # 4 batches of the first store and 8 of the second.
    assert [record.updates for record in history] == [12, 24]
    elements = json.loads((run[2] / "elements.json").read_text())["elements"]
    assert elements == ["H", "C", "O"]


def test_a_store_alone_is_validated_as_among_others(run, stores, tmp_path):
    """What is reported of the second store is what it is when it comes first."""
    fields = {**FIELDS, "num_epochs": 1, "learning_rate": 1e-12, "init_from": str(run[2])}
    _, _, ahead = run_training("ahead", stores[::-1], out=str(tmp_path), **fields)
    _, _, behind = run_training("behind", stores, out=str(tmp_path), **fields)
    first = Experiment(ahead).history()[0].valid
    other = Experiment(behind).history()[0].valid_of_others[stores[1]]
    assert first.keys() == other.keys()
    for name, value in first.items():
        assert other[name] == pytest.approx(value, rel=1e-4, abs=1e-7), name


def test_an_interrupted_run_resumes_exactly(run, stores, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        interrupt(patch, asked_to_stop)
        with pytest.raises(SystemExit):
            run_training("cut", stores, ratio=[1, 2], out=str(tmp_path), **FIELDS)
    again = resume(tmp_path / "cut")
    assert again[1] == run[1]
    assert metrics(again[2]) == metrics(run[2])


def test_a_store_that_lacks_what_is_trained_on_is_named(rng, stores, tmp_path):
    columns = random_columns(rng, [3] * 12, [5] * 12)
    del columns["esp"], columns["vdw_surface"]
    bare = write_store(tmp_path / "bare.zarr", columns)
    with pytest.raises(TrainingError, match=r"bare\.zarr"):
        run_training("bare", [stores[0], bare], out=str(tmp_path), **FIELDS)
    assert not (tmp_path / "bare").exists()


@pytest.mark.parametrize("ratio", ["1:2:3", "1", "0:1", "1:-2", "one:two", "nan:1"])
def test_a_ratio_that_means_nothing_is_refused(ratio, stores, tmp_path):
    words = ["train", *stores, "--name", "none", "--out", str(tmp_path), "--ratio", ratio]
    ended = CliRunner().invoke(app, words)
    assert isinstance(ended.exception, ConfigError)
    assert not (tmp_path / "none").exists()


def test_the_network_is_that_of_the_model_it_starts_from(run):
    given = Experiment(run[2]).config().model
    config = make_config(None, "quality", {"init_from": str(run[2]), "n_dcm": 3})
    assert config.model == given.updated(n_dcm=3)
    base = ExperimentConfig()
    assert make_config(base, None, {"init_from": str(run[2])}).model == base.model


def test_fine_tuning_needs_a_model():
    with pytest.raises(ConfigError, match="--init-from dcm2"):
        make_config(None, "finetune", {})
