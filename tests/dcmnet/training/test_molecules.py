"""The batches of a run: of few molecules several make up a batch of the configuration."""

import itertools
import shutil

import numpy as np
import pytest

from dcmnet.config import ExperimentConfig
from dcmnet.training import molecules
from dcmnet.training.molecules import make_data


def data_of(store, num_train=None, **training):
    data = {"store": str(store), "num_train": num_train}
    config = ExperimentConfig.model_validate({"name": "trial", "data": data, "training": training})
    return make_data(config)[0]


@pytest.mark.parametrize("batch_size", [16, 37, 64, 79, 128, 997])
def test_every_molecule_is_in_one_update_of_an_epoch(sample_store, batch_size):
    data = data_of(sample_store, batch_size=batch_size)
    batches = list(itertools.islice(data.train, data.batches_per_epoch))
    counts = [int(batch.molecule_mask.sum()) for batch in batches]
    updates = [
        sum(counts[first : first + data.batches_per_update])
        for first in range(0, len(counts), data.batches_per_update)
    ]
    rows = np.concatenate([batch.molecule_index[batch.molecule_mask] for batch in batches])
    assert len(set(rows.tolist())) == len(rows) == sum(counts)
    # Parts are whole molecules.
    assert max(updates) < batch_size + data.batches_per_update
    assert len(updates) == -(-len(rows) // batch_size)


@pytest.mark.parametrize("batch_size", [53, 64, 127, 128, 512, 997])
def test_a_batch_of_most_molecules_is_made_of_several_that_waste_little(sample_store, batch_size):
    data = data_of(sample_store, batch_size=batch_size)
    assert data.batches_per_epoch >= 3
    assert data.padding_waste <= 0.15


@pytest.mark.parametrize("n", [1, 2, 20, 30, 47])
def test_parts_of_few_molecules_are_not_too_small(sample_store, n):
    data = data_of(sample_store, n, batch_size=16)
    batch = next(data.train)
    assert batch.shape.molecules >= min(n, 8)
    assert data.batches_per_update <= 3


def test_batches_of_several_stores_are_not_divided(sample_store, tmp_path):
    """A ratio counts them."""
    copy = shutil.copytree(sample_store, tmp_path / "copy.zarr")
    config = ExperimentConfig.model_validate(
        {
            "name": "trial",
            "data": {"store": str(sample_store), "more_stores": [str(copy)]},
            "training": {"batch_size": 128},
        }
    )
    assert make_data(config)[0].batches_per_update == 1


def test_accumulation_counts_batches_of_the_configuration(sample_store):
    one = data_of(sample_store, batch_size=128)
    four = data_of(sample_store, batch_size=128, gradient_accumulation_steps=4)
    assert four.batches_per_update == 4 * one.batches_per_update


@pytest.mark.parametrize("held", [0, 1000])
def test_each_validation_is_of_the_same_molecules_held_or_read_anew(
    sample_store, monkeypatch, held
):
    monkeypatch.setattr(molecules, "_HELD", held)
    data = data_of(sample_store)
    first, second = (list(data.valid()) for _ in range(2))
    assert sum(int(batch.molecule_mask.sum()) for batch in first) > 1
    for one, other in zip(first, second, strict=True):
        assert (one is other) == bool(held)
        for name, array in one._asdict().items():
            np.testing.assert_array_equal(array, getattr(other, name))
