"""TensorBoard's files, read as TensorBoard reads them."""

from contextlib import closing

import jax
import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from dcmnet import run_training
from dcmnet.model.observables import Observables
from dcmnet.tracking.tensorboard import EventFile, write_distributions, write_scalars
from dcmnet.train_runner import resume
from tests.dcmnet.experiment.test_log import record
from tests.dcmnet.training.test_train_runner import interrupt, killed_before_its_checkpoint
from tests.dcmnet.training.training_case import batch_of, molecules
from tests.experiments import SETTINGS, metrics


def read(folder):
    events = EventAccumulator(str(folder), size_guidance={"images": 0, "histograms": 0})
    events.Reload()
    return events


def scalars_of(events):
    return {
        tag: [(event.step, event.value) for event in events.Scalars(tag)]
        for tag in events.Tags()["scalars"]
    }


def assert_every_metric_once(directory):
    lines = metrics(directory)
    found = scalars_of(read(directory / "tensorboard"))
    for part in ("train", "valid"):
        for name in lines[0][part]:
            steps, values = zip(*found[f"{part}/{name}"], strict=True)
            assert steps == tuple(line["epoch"] for line in lines)
            assert values == pytest.approx([line[part][name] for line in lines], rel=1e-6)
    assert [step for step, _ in found["run/learning_rate"]] == [line["epoch"] for line in lines]


def test_a_run_leaves_scalars_histograms_and_a_figure(trained):
    directory = trained[2]
    assert_every_metric_once(directory)
    events = read(directory / "tensorboard")
    histograms = events.Tags()["histograms"]
    assert {"distributed_charges/e", "displacements/angstrom"} < set(histograms)
    assert "parameters/charge_head/element_bias" in histograms
    assert [event.step for event in events.Histograms("esp_error/kcal_per_mol_e")] == [1, 3]
    assert [event.step for event in events.Images("esp/predicted_against_reference")] == [1, 3]
    assert events.Images("esp/predicted_against_reference")[0].encoded_image_string[1:4] == b"PNG"


def test_an_epoch_done_twice_is_there_once(sample_store, tmp_path, monkeypatch):
    """The second epoch was written, its checkpoint was not; the resumed run does it again."""
    with monkeypatch.context() as patch:
        interrupt(patch, killed_before_its_checkpoint)
        with pytest.raises(KeyboardInterrupt):
            run_training("cut", sample_store, out=str(tmp_path), **SETTINGS)
    assert len(metrics(tmp_path / "cut")) == 2
    resume(tmp_path / "cut")
    assert_every_metric_once(tmp_path / "cut")


@pytest.mark.parametrize("kept", [0.3, 0.9])
def test_files_cut_short_by_a_kill_are_gone_on_with(tmp_path, kept):
    with closing(EventFile(tmp_path, 0)) as writer:
        for epoch in (1, 2, 3):
            write_scalars(writer, record(epoch))
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[: int(kept * path.stat().st_size)])
    # The last that is written of an epoch; no checkpoint is of a later one.
    last = scalars_of(read(tmp_path)).get("run/input_wait_fraction", [])
    done = len(last)
    with closing(EventFile(tmp_path, done)) as writer:
        for epoch in range(done + 1, 4):
            write_scalars(writer, record(epoch))
    for values in scalars_of(read(tmp_path)).values():
        assert [step for step, _ in values] == [1, 2, 3]


def test_what_is_written_is_on_the_disk_before_its_checkpoint(tmp_path):
    with closing(EventFile(tmp_path, 0)) as writer:
        write_scalars(writer, record(1))
        assert scalars_of(read(tmp_path))["valid/loss"] == [(1, 3.0)]


class Recorder:
    """A writer that has everything, and keeps it."""

    def __init__(self):
        self.histograms = {}
        self.figures = []

    def add_scalar(self, tag, scalar_value, global_step):
        pass

    def add_histogram(self, tag, values, global_step):
        self.histograms[tag] = values

    def add_figure(self, tag, figure, global_step):
        self.figures.append(tag)


def test_histograms_hold_what_is_real(rng):
    """No padding atom or point in a histogram, and nothing that is not finite."""
    batch = batch_of(molecules(4))
    atoms, points = batch.atom_mask, batch.grid_mask & batch.has_esp[:, None]
    shape = (*atoms.shape, 2)
    predicted = Observables(
        charges=np.where(atoms[..., None], rng.normal(size=shape), 7.0),
        displacements=np.where(atoms[..., None, None], rng.normal(size=(*shape, 3)), 7.0),
        esp=np.where(points, batch.esp + 1.0, 7.0),
        **dict.fromkeys(("monopoles", "dipole", "quadrupole", "electric_field")),
    )
    params = {"params": {"kernel": np.array([[1.0, np.nan]])}}
    writer = Recorder()
    write_distributions(writer, 1, params, jax.tree.map(jax.numpy.asarray, predicted), batch)
    assert writer.histograms["distributed_charges/e"].size == 2 * atoms.sum()
    assert writer.histograms["distributed_charges/e"].max() < 7.0
    assert writer.histograms["esp_error/kcal_per_mol_e"] == pytest.approx(627.509, rel=1e-4)
    assert writer.histograms["esp_error/kcal_per_mol_e"].size == points.sum()
    assert writer.histograms["parameters/kernel"].tolist() == [1.0]
    assert writer.figures == ["esp/predicted_against_reference"]
