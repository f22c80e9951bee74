"""The short names that notebooks use, on the bundled sample."""

import jax
import numpy as np
import pytest

from dcmnet.analysis import create_model
from dcmnet.data import prepare_datasets
from dcmnet.training import train_model
from pipeline.sample import sample_sources
from store_schema.problems import ConfigError


@pytest.fixture(scope="module")
def datasets():
    ions = sample_sources()[1]
    return prepare_datasets(jax.random.key(1), 20, 6, filename=[ions], natoms=18)


def test_datasets_are_disjoint_padded_and_in_canonical_units(datasets):
    train, valid = datasets
    assert train["R"].shape == (20, 18, 3)
    assert valid["Z"].shape == (6, 18)
    assert not set(train["id"]) & set(valid["id"])
    assert set(np.unique(train["Q"])) <= {-1.0, 0.0, 1.0}
    # The file's ESP is in kcal/mol/e; in hartree/e an ion's is below one.
    assert np.nanmax(np.abs(train["esp"])) < 1.0
    inside = np.arange(18) < train["N"][:, None]
    assert np.isnan(train["mono"][~inside]).all()
    assert np.nansum(train["mono"], axis=1) == pytest.approx(train["Q"], abs=0.05)


def test_the_same_key_draws_the_same_molecules(datasets):
    again, _ = prepare_datasets(jax.random.key(1), 20, 6, filename=sample_sources()[1])
    assert list(again["id"]) == list(datasets[0]["id"])


def test_more_molecules_or_fewer_atoms_than_there_are_is_refused():
    ions = sample_sources()[1]
    with pytest.raises(ConfigError, match="more than 61"):
        prepare_datasets(jax.random.key(0), 10_000, 1, filename=ions)
    with pytest.raises(ConfigError, match="natoms"):
        prepare_datasets(jax.random.key(0), 4, 1, filename=ions, natoms=3)


class Numbers:
    def __init__(self):
        self.tags = []

    def add_scalar(self, tag, scalar_value, global_step):
        self.tags.append((tag, global_step))


def test_a_model_trains_as_notebooks_call_it(datasets):
    key, writer = jax.random.key(2), Numbers()
    model = create_model(n_dcm=3, features=4, max_degree=1, num_iterations=1)
    params, loss = train_model(
        key=key,
        model=model,
        train_data=datasets[0],
        valid_data=datasets[1],
        num_epochs=2,
        learning_rate=1e-3,
        batch_size=1,
        writer=writer,
        ndcm=model.n_dcm,
        esp_w=10000.0,
        chg_w=1.0,
        use_grad_clip=True,
        grad_clip_norm=2.0,
    )
    assert np.isfinite(loss)
    assert ("valid/esp_rmse", 2) in writer.tags
    bias = np.asarray(params["params"]["charge_head"]["element_bias"])
    assert bias[1] > 0 > bias[8]  # hydrogen gives, oxygen takes


def test_another_number_of_charges_than_the_models_is_refused(datasets):
    with pytest.raises(ConfigError, match="n_dcm"):
        train_model(jax.random.key(0), create_model(n_dcm=3), *datasets, num_epochs=1, ndcm=2)
