"""Starting from another model: what fits is taken, and the charges are made to fit."""

import dataclasses
import re

import jax
import numpy as np
import pytest
from rich.console import Console

from dcmnet import load_model, run_training
from dcmnet.model.electrostatics import esp
from dcmnet.train_runner import resume
from dcmnet.training.fine_tuning import parameters_from, with_other_charges
from pipeline.loader import make_batch
from store_schema.problems import CheckpointError
from tests.experiments import SETTINGS
from tests.molecules import SmallNetwork, random_molecule, random_parameters
from tests.stores import random_columns, write_store


@pytest.fixture(scope="module")
def batch():
    rng = np.random.default_rng(4)
    return make_batch([random_molecule(rng, n_atoms, 20) for n_atoms in (4, 7, 3)])


def predictions(n_dcm, params, batch):
    return dataclasses.replace(SmallNetwork.make(n_dcm=n_dcm), params=params)(
        batch, constrain=False
    )


def grown(old, new):
    """Returns parameters of `old` charges, and those that are made of them for `new`."""
    params = SmallNetwork.make(n_dcm=old).params
    fresh = random_parameters(SmallNetwork.make(n_dcm=new).config, seed=1)
    silent = jax.tree.map(np.zeros_like, fresh)
    return params, with_other_charges(params, silent, old, new), fresh


@pytest.mark.parametrize(("old", "new"), [(1, 3), (2, 4), (2, 3), (3, 4)])
def test_more_charges_keep_the_monopoles(batch, old, new):
    params, more, _ = grown(old, new)
    before, after = predictions(old, params, batch), predictions(new, more, batch)
    np.testing.assert_allclose(after[0].sum(axis=-1), before[0].sum(axis=-1), atol=1e-5)
    origin = np.arange(new) % old
    np.testing.assert_allclose(after[1], before[1][:, :, origin], atol=1e-6)


@pytest.mark.parametrize(("old", "new"), [(1, 2), (2, 6)])
def test_a_multiple_of_the_charges_keeps_the_esp(batch, old, new):
    params, more, _ = grown(old, new)
    values = [
        esp(*(jax.numpy.asarray(part.reshape(3, -1, *part.shape[3:])) for part in found), grid)
        for found in (predictions(old, params, batch), predictions(new, more, batch))
        for grid in [jax.numpy.asarray(batch.vdw_surface)]
    ]
    np.testing.assert_allclose(
        np.where(batch.grid_mask, values[1], 0), np.where(batch.grid_mask, values[0], 0), atol=1e-5
    )


def test_copies_come_apart(batch):
    """Twins would have the same gradients, and stay twins whatever the training."""
    params, _, fresh = grown(2, 4)
    _, positions = predictions(4, with_other_charges(params, fresh, 2, 4), batch)
    apart = np.abs(positions[:, :, :2] - positions[:, :, 2:])[batch.atom_mask]
    assert apart.max(axis=-1).min() > 1e-6


def test_fewer_charges_are_the_first_ones(batch):
    params, fewer, _ = grown(3, 2)
    before, after = predictions(3, params, batch), predictions(2, fewer, batch)
    np.testing.assert_allclose(after[1], before[1][:, :, :2], atol=1e-6)


def test_what_fits_is_taken_and_the_rest_is_told(trained):
    params, _, directory = trained
    reported = []
    network = load_model(directory).config
    taken = parameters_from(directory, network.updated(n_dcm=5), report=reported.append)
    jax.tree.map(
        np.testing.assert_array_equal,
        taken["params"]["message_passing"],
        params["params"]["message_passing"],
    )
    (text,) = reported
    assert "n_dcm 2" in text
    assert "charge_head/Dense_0/kernel" in text
    assert "message_passing" not in text
    reported.clear()
    parameters_from(directory, network, report=reported.append)
    assert not reported


@pytest.mark.parametrize(
    ("fields", "remedy"),
    [
        ({"features": 8}, "--set model.features=4"),
        ({"n_dcm": 3, "max_degree": 2}, "--set model.max_degree=1"),
    ],
)
def test_another_message_passing_is_refused(trained, fields, remedy):
    network = load_model(trained[2]).config.updated(**fields)
    with pytest.raises(CheckpointError, match=remedy) as caught:
        parameters_from(trained[2], network)
    assert "n_dcm=" not in str(caught.value)


def test_a_run_goes_on_from_fewer_charges(trained, sample_store, tmp_path):
    console = Console(record=True, width=200)
    fields = {**SETTINGS, "num_epochs": 1, "n_dcm": 4, "init_from": str(trained[2])}
    _, best, directory = run_training(
        "more", sample_store, out=str(tmp_path), console=console, **fields
    )
    assert "n_dcm 2, the new network 4" in console.export_text()
    assert load_model(directory).network.n_dcm == 4
    assert best < trained[1], "one more epoch, not one from the start"
    (directory / "config.json").write_text(
        (directory / "config.json").read_text().replace(str(trained[2]), "gone")
    )
    assert resume(directory)[1] == best


def test_elements_that_the_model_to_start_from_has_not_seen_are_named(trained, rng, tmp_path):
    columns = random_columns(rng, [3, 4, 3, 4, 3, 4], [20] * 6)
    columns["atomic_numbers"][:, 0] = 26
    store = write_store(tmp_path / "iron.zarr", columns, split=["train"] * 6)
    console = Console(record=True, width=200)
    fields = {**SETTINGS, "num_epochs": 1, "n_dcm": 2, "init_from": str(trained[2])}
    run_training("iron", store, out=str(tmp_path), console=console, **fields)
    assert re.search(r"has not seen .*Fe.* in training", console.export_text())
