"""The batches of a run: of few molecules several make up a batch of the configuration."""

import itertools

import numpy as np
import pytest

from dcmnet.config import ExperimentConfig
from dcmnet.training.molecules import make_data


def data_of(store, **training):
    config = ExperimentConfig.model_validate(
        {"name": "trial", "data": {"store": str(store)}, "training": training}
    )
    return make_data(config)[0]


@pytest.mark.parametrize("batch_size", [16, 37, 64, 128, 1000])
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
    assert max(updates) <= batch_size
    assert len(updates) == -(-len(rows) // batch_size)


@pytest.mark.parametrize("batch_size", [64, 128, 512])
def test_a_batch_of_most_molecules_is_made_of_several_that_waste_little(sample_store, batch_size):
    data = data_of(sample_store, batch_size=batch_size)
    assert data.batches_per_epoch >= 3
    assert data.padding_waste <= 0.15


def test_accumulation_counts_batches_of_the_configuration(sample_store):
    one = data_of(sample_store, batch_size=128)
    four = data_of(sample_store, batch_size=128, gradient_accumulation_steps=4)
    assert four.batches_per_update == 4 * one.batches_per_update
