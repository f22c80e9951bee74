"""The loop: what it records, when it stops, and that a broken loss names its molecules."""

import math

import jax
import numpy as np
import pytest

from dcmnet.experiment.checkpoints import Checkpoints
from dcmnet.experiment.state import Progress
from dcmnet.training.epoch import Data, Trainer
from dcmnet.training.loop import train
from dcmnet.training.optimizer import make_schedule
from dcmnet.training.statistics import ENTRIES
from store_schema.problems import TrainingError
from tests.dcmnet.training.training_case import (
    CONFIG,
    UPDATES_PER_EPOCH,
    CyclingBatches,
    batch_of,
    make_case,
    molecules,
    new_state,
)


@pytest.fixture(scope="module")
def case():
    return make_case()


@pytest.fixture
def batches():
    some = molecules(14, seed=3)
    return [batch_of(some[:6]), batch_of(some[6:12]), batch_of(some[12:])]


def data_of(batches, batches_per_update=1):
    return Data(
        train=CyclingBatches(batches),
        batches_per_epoch=len(batches),
        batches_per_update=batches_per_update,
        padding_waste=0.0,
        valid=lambda: iter(batches[-1:]),
        names=lambda rows: [f"molecule-{row}" for row in rows],
    )


def run(case, data, folder, config=CONFIG, progress=None, **callbacks):
    model, optimizer, steps = case
    trainer = Trainer(
        steps, new_state(model, optimizer), config, make_schedule(config, UPDATES_PER_EPOCH)
    )
    records = []
    with Checkpoints(folder) as checkpoints:
        progress = train(
            trainer,
            data,
            checkpoints,
            progress or Progress(epoch=0),
            on_epoch=records.append,
            **callbacks,
        )
        names = checkpoints.names()
    return progress, records, names


def test_every_molecule_of_the_epoch_is_in_the_statistics(case, batches, tmp_path):
    """Trap: the last partial batch dropped."""
    _, records, _ = run(case, data_of(batches), tmp_path)
    model, _, steps = case
    assert [record.epoch for record in records] == [1, 2, 3, 4]
    counts = [float(steps.evaluate(model.params, batch)["loss"][ENTRIES]) for batch in batches]
    assert sum(counts) == 14
    assert all(math.isfinite(record.train["loss"]) for record in records)


def test_epochs_stop_after_some_without_improvement(case, batches, tmp_path):
    config = CONFIG.updated(num_epochs=50, early_stopping_epochs=2)
    # Validation on the same parameters forever: a step of no length never improves.
    still = make_case(config.updated(learning_rate=1e-30))
    progress, records, _ = run(still, data_of(batches), tmp_path, config)
    assert progress.epoch - progress.best_epoch == 2
    assert len(records) == progress.epoch < 50


def test_the_epoch_in_which_time_runs_out_is_the_last(case, batches, tmp_path):
    config = CONFIG.updated(num_epochs=50, time_limit_minutes=1e-9)
    progress, _, names = run(case, data_of(batches), tmp_path, config)
    assert progress.epoch == 1
    assert "latest" in names


def test_a_stop_is_saved_in_the_middle_of_an_epoch(case, batches, tmp_path):
    asked = iter([False, True])
    progress, records, names = run(
        case, data_of(batches), tmp_path, stop=lambda: next(asked, False)
    )
    assert not records
    assert progress.epoch == 0
    assert progress.under_way is not None
    assert progress.under_way["batches"] == 2
    assert names == ["latest"]


def test_a_loss_that_breaks_names_its_molecules_and_saves_nothing(case, batches, tmp_path):
    broken = batches[1]
    esp = np.array(broken.esp)
    esp[2, 0] = np.inf
    data = data_of([batches[0], broken._replace(esp=esp)])
    expected = f"molecule-{broken.molecule_index[2]};"
    with jax.debug_nans(False), pytest.raises(TrainingError, match=expected) as raised:
        run(case, data, tmp_path)
    assert "molecule-0" not in str(raised.value)
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.names() == []
