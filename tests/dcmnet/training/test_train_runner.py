"""Runs from configuration to checkpoints: what they leave, how they go on, what they refuse."""

import io
import signal

import jax
import numpy as np
import pytest
from rich.console import Console

from dcmnet import load_model, run_training, train_runner
from dcmnet.config import ExperimentConfig
from dcmnet.experiment.checkpoints import Checkpoints
from dcmnet.experiment.directory import Experiment
from dcmnet.experiment.metrics import print_outcome
from dcmnet.train_runner import make_config, resume
from dcmnet.training import run as running
from dcmnet.training.molecules import make_data
from dcmnet.training.stopping import STOPPED
from pipeline.sample import sample_sources
from store_schema.problems import CheckpointError, ConfigError, StoreError, TrainingError
from tests.experiments import SETTINGS, copy, metrics
from tests.molecules import named
from tests.stores import random_columns, write_store


def assert_identical(found, expected):
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    jax.tree.map(np.testing.assert_array_equal, found, expected)


def test_an_experiment_holds_what_it_needs_to_run_again(trained, sample_store):
    _, _, directory = trained
    config = Experiment(directory).config()
    assert config == ExperimentConfig.model_validate_json((directory / "config.json").read_text())
    assert config.data.store == str(sample_store)
    assert (config.model.features, config.training.batch_size) == (4, 16)
    assert Experiment(directory).checkpoints_path.is_dir()


def test_metrics_have_one_line_an_epoch(trained):
    _, best, directory = trained
    lines = metrics(directory)
    assert [line["epoch"] for line in lines] == [1, 2, 3]
    assert best == min(line["valid"]["esp_rmse"] for line in lines)
    for line in lines:
        assert {"loss", "esp_rmse", "monopole_mae"} <= line["train"].keys() & line["valid"].keys()
    assert lines[0]["best"]
    updates = [line["updates"] for line in lines]
    assert updates == [updates[0], 2 * updates[0], 3 * updates[0]]


def test_the_returned_parameters_are_those_of_the_best_epoch(trained):
    params, best, directory = trained
    model = load_model(directory)
    assert_identical(jax.device_get(model.params), jax.device_get(params))
    lines = {line["epoch"]: line for line in metrics(directory)}
    assert lines[model.epoch]["valid"]["esp_rmse"] == best


def test_checkpoints_are_best_latest_and_periodic(trained):
    with Checkpoints(trained[2] / "checkpoints", read_only=True) as checkpoints:
        assert checkpoints.names() == ["best", "latest", "epoch_2"]
    assert load_model(trained[2], "latest").epoch == 3
    assert load_model(trained[2], "epoch_2").epoch == 2


def test_training_makes_it_better(trained):
    first, *_, last = metrics(trained[2])
    assert last["train"]["loss"] < first["train"]["loss"]


def killed_between_batches(epoch, batch):
    if (epoch, batch) == (2, 5):
        raise KeyboardInterrupt


def killed_before_its_checkpoint(epoch, batch):
    if (epoch, batch) == (2, "end"):
        raise KeyboardInterrupt


def asked_to_stop(epoch, batch):
    if (epoch, batch) == (2, 5):
        signal.raise_signal(signal.SIGTERM)


def interrupt(monkeypatch, how):
    """Lets `how` look at each batch of a run, and at each epoch when its line is written."""
    train = running.train

    def watched(*arguments, on_epoch, on_batch, **others):
        place = [1, 0]

        def each_batch():
            on_batch()
            place[1] += 1
            how(*place)

        def each_epoch(record):
            on_epoch(record)
            how(record.epoch, "end")
            place[:] = record.epoch + 1, 0

        return train(*arguments, on_epoch=each_epoch, on_batch=each_batch, **others)

    monkeypatch.setattr(running, "train", watched)


@pytest.mark.parametrize(
    "how", [killed_between_batches, killed_before_its_checkpoint, asked_to_stop]
)
def test_a_resumed_run_equals_one_that_never_stopped(
    how, trained, sample_store, tmp_path, monkeypatch
):
    """The trap of a resume that resets the average, the best value or the shuffle."""
    _, expected_best, expected = trained
    with monkeypatch.context() as patch:
        interrupt(patch, how)
        with pytest.raises((KeyboardInterrupt, SystemExit)) as raised:
            run_training("cut", sample_store, out=str(tmp_path), **SETTINGS)
    if how is asked_to_stop:
        assert raised.value.code == STOPPED == 75
    directory = tmp_path / "cut"
    assert len(metrics(directory)) == (2 if how is killed_before_its_checkpoint else 1)
    _, best, _ = resume(directory)
    assert best == expected_best
    assert metrics(directory) == metrics(expected)
    for checkpoint in ("best", "latest", "epoch_2"):
        found, model = load_model(directory, checkpoint), load_model(expected, checkpoint)
        assert found.epoch == model.epoch
        assert_identical(jax.device_get(found.params), jax.device_get(model.params))


def test_a_finished_run_resumes_to_itself(trained, tmp_path):
    _, best, directory = trained
    again = copy(directory, tmp_path / "again")
    said = Console(file=io.StringIO(), width=200)
    assert resume(again, said)[1] == best
    assert metrics(again) == metrics(directory)
    assert f"--init-from {again}" in said.file.getvalue().replace("\n", "")


def test_an_experiment_is_never_overwritten(trained, sample_store):
    directory = trained[2]
    before = (directory / "config.json").read_text()
    with pytest.raises(ConfigError, match="dcmnet resume"):
        run_training("trial", sample_store, out=str(directory.parent), n_dcm=1)
    assert (directory / "config.json").read_text() == before


def test_a_job_that_is_started_again_goes_on(trained, sample_store, tmp_path, monkeypatch):
    """One command begins, goes on, and finds the run at its end; with its settings only."""
    fields = {**SETTINGS, "out": str(tmp_path), "resume": True}
    with monkeypatch.context() as patch:
        interrupt(patch, asked_to_stop)
        with pytest.raises(SystemExit):
            run_training("job", sample_store, **fields)
    again = run_training("job", sample_store, **fields)
    assert again[1] == trained[1]
    assert metrics(again[2]) == metrics(trained[2])
    monkeypatch.chdir(tmp_path)
    assert run_training("job", sample_store, **{**fields, "out": "."})[1] == trained[1]
    for changed in ({"learning_rate": 0.125}, {"model.n_dcm": 1}):
        with pytest.raises(ConfigError, match=next(iter(changed)).split(".")[-1]):
            run_training("job", sample_store, **{**fields, **changed})
    assert metrics(again[2]) == metrics(trained[2])


def test_a_missing_store_leaves_nothing_behind(tmp_path):
    with pytest.raises(StoreError):
        run_training("none", tmp_path / "none.zarr", out=str(tmp_path / "experiments"))
    assert not (tmp_path / "experiments").exists()


def test_an_esp_to_train_on_is_demanded(rng, tmp_path):
    columns = random_columns(rng, [3] * 12, [5] * 12)
    del columns["esp"], columns["vdw_surface"]
    store = write_store(tmp_path / "bare.zarr", columns)
    with pytest.raises(TrainingError, match=r"training\.esp_w=0"):
        run_training("bare", store, out=str(tmp_path))
    assert not (tmp_path / "bare").exists()


def test_an_empty_training_split_is_refused(rng, tmp_path):
    store = write_store(tmp_path / "few.zarr", random_columns(rng, [3], [5]), split=["test"])
    with pytest.raises(TrainingError, match="has no molecules"):
        run_training("few", store, out=str(tmp_path))
    assert not (tmp_path / "few").exists()


@pytest.mark.parametrize(
    ("arguments", "named_in_message"),
    [
        ({"n_dmc": 3}, "n_dcm"),
        ({"lerning_rate": 1e-3}, "learning_rate"),
        ({"model.cutof": 4.0}, "model.cutoff"),
        ({"preset": "fast"}, "quick or quality"),
        ({"n_dcm": 0}, "model.n_dcm"),
        ({"name": "../escape"}, "name"),
    ],
)
def test_wrong_fields_are_refused_with_the_right_names(arguments, named_in_message, tmp_path):
    fields = {"out": str(tmp_path / "out"), **arguments}
    with pytest.raises(ConfigError) as caught:
        run_training(store=tmp_path / "any.zarr", **fields)
    assert named_in_message in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_all_wrong_fields_are_told_at_once():
    with pytest.raises(ConfigError) as caught:
        make_config(None, None, {"n_dmc": 3, "lerning_rate": 1})
    assert len(caught.value.problems) == 2


def test_fields_outrank_the_preset_and_the_preset_the_base():
    base = ExperimentConfig().with_fields({"n_dcm": 5, "learning_rate": 0.5, "num_epochs": 7})
    config = make_config(base, "quick", {"num_epochs": 3, "warmup_epochs": 0})
    assert config.model.n_dcm == 5
    assert config.training.learning_rate == make_config(None, "quick", {}).training.learning_rate
    assert config.training.num_epochs == 3


def test_nothing_to_resume_is_told(tmp_path, trained):
    with pytest.raises(ConfigError):
        resume(tmp_path / "nowhere")
    bare = copy(trained[2], tmp_path / "bare")
    for folder in ("latest", "best", "epoch_2"):
        (bare / "checkpoints" / folder).rename(tmp_path / folder)
    with pytest.raises(CheckpointError):
        resume(bare)
    assert len(metrics(bare)) == 3


@pytest.mark.parametrize(("name", "charge"), [("CH3OH", 0), ("OH", -1), ("CH4", 1)])
def test_a_loaded_model_predicts_charges_that_sum_to_the_total(trained, name, charge):
    model = load_model(trained[2])
    molecule = named(name, charge)
    charges, positions = model.predict(
        molecule["atomic_numbers"], molecule["positions"], total_charge=charge
    )
    n_dcm = model.network.n_dcm
    assert charges.shape == (len(molecule["atomic_numbers"]), n_dcm)
    assert positions.shape == (*charges.shape, 3)
    assert charges.astype(np.float64).sum() == pytest.approx(charge, abs=1e-6)
    reach = np.abs(positions - molecule["positions"][:, None]).max()
    assert 0 < reach <= 0.175 + 1e-6


def test_a_prediction_does_not_depend_on_the_order_of_atoms(trained, rng):
    model, molecule = load_model(trained[2]), named("CH3OH", 0)
    numbers, xyz = molecule["atomic_numbers"], molecule["positions"]
    order = rng.permutation(len(numbers))
    charges, positions = model.predict(numbers, xyz)
    permuted, permuted_positions = model.predict(numbers[order], xyz[order])
    np.testing.assert_allclose(permuted, charges[order], atol=1e-6)
    np.testing.assert_allclose(permuted_positions, positions[order], atol=1e-6)


def test_a_run_starts_from_the_parameters_of_another(trained, sample_store, tmp_path):
    """One epoch at a vanishing rate keeps the parameters that it started from."""
    params, _, directory = trained
    fields = {
        **SETTINGS,
        "num_epochs": 1,
        "learning_rate": 1e-12,
        "init_from": str(directory),
        "out": str(tmp_path),
    }
    found, _, _ = run_training("tuned", sample_store, **fields)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), found, params)
    with pytest.raises(CheckpointError, match="another network"):
        run_training("wider", sample_store, **{**fields, "features": 8})
    assert not (tmp_path / "wider").exists()


def test_the_bundled_sample_stands_in_for_a_store(sample_store, tmp_path, monkeypatch):
    """Ingested once beside the experiments; `demo` and `trained` are runs on it."""
    ingested, trained_on = [], []

    def ingest(sources, store):
        ingested.append(list(sources))
        copy(sample_store, store)

    def train(run, **options):
        trained_on.append(run.config.data.store)
        return {}, 0.0, run.experiment.directory

    monkeypatch.setattr(train_runner, "ingest", ingest)
    monkeypatch.setattr(train_runner, "run_to_end", train)
    run_training("first", out=str(tmp_path))
    run_training("second", out=str(tmp_path))
    assert ingested == [sample_sources()]
    assert trained_on == [str(tmp_path / "sample.zarr")] * 2


def test_epochs_are_told_as_often_as_asked(trained, sample_store, tmp_path):
    console = Console(record=True, width=80, force_terminal=False)
    fields = {**SETTINGS, "print_every_n_epochs": 3, "out": str(tmp_path)}
    run_training("quiet", sample_store, console=console, **fields)
    text = console.export_text()
    assert "epoch 1/3" in text, "the first epoch shows that the run works"
    assert "epoch 2/3" not in text
    assert "epoch 3/3" in text
    assert all(len(line) <= 80 for line in text.splitlines())


def test_more_molecules_than_there_are_is_told(sample_store):
    config = ExperimentConfig().with_fields(
        {"store": str(sample_store), "num_train": 10_000, "num_valid": 1, "batch_size": 64}
    )
    (note,) = make_data(config)[0].notes
    assert "data.num_train is 10000" in note
    config = config.with_fields({"num_train": 5, "train_fraction": 1.0, "valid_fraction": 0.0})
    (note,) = make_data(config)[0].notes
    assert "no validation molecules" in note


def test_a_single_molecule_trains_and_the_training_decides(rng, tmp_path):
    store = write_store(tmp_path / "one.zarr", random_columns(rng, [5], [9]), split=["train"])
    console = Console(record=True, width=80)
    fields = {**SETTINGS, "num_epochs": 2, "out": str(tmp_path)}
    _, best, directory = run_training("one", store, console=console, **fields)
    assert best == min(line["train"]["esp_rmse"] for line in metrics(directory))
    print_outcome(best, directory, console)
    text = " ".join(console.export_text().split())
    assert "no validation molecules" in text
    assert "best training ESP RMSE" in text
