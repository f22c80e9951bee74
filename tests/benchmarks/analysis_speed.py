"""Times an analysis beside the forward pass of a training step, in turn, in one process."""

import tempfile
import time
from pathlib import Path

import jax
import numpy as np

from dcmnet.analysis.run import analysis_loader, write_results
from dcmnet.config import DataConfig, ExperimentConfig, ModelConfig
from dcmnet.model.trained import TrainedModel
from dcmnet.training.optimizer import make_schedule
from dcmnet.training.step import make_steps
from pipeline import ingest, make_loader, open_store
from pipeline.sample import sample_sources
from store_schema.results import ResultsSchema
from tests.molecules import random_parameters
from tests.stores import NAMES, write_store

COPIES = 64  # of the bundled sample, so that what is done once an analysis hardly counts
ROUNDS = 7
BATCH = 16


def tiled_sample(folder):
    """Returns a store that has the molecules of the sample over and over."""
    ingest(sample_sources(), folder / "sample.zarr")
    sample = open_store(folder / "sample.zarr").to_dataset().load()
    columns = {
        name: np.concatenate([sample[name].values] * COPIES)
        for name in NAMES
        if name in sample and name != "molecule_id"
    }
    return write_store(folder / "many.zarr", columns)


def analysis_times(n_dcm):
    """Measures both in turn, after both have compiled.

    Returns:
        Seconds of the forward passes of all batches, and of analyses of the same
        molecules: read, predicted, fitted, counted, written and published.
    """
    with tempfile.TemporaryDirectory() as scratch:
        store = tiled_sample(Path(scratch))
        network = ModelConfig(n_dcm=n_dcm)
        model = TrainedModel(network, random_parameters(network))
        config = ExperimentConfig(name="bench", model=network, data=DataConfig(store=str(store)))
        loader = make_loader(store, batch_size=BATCH, split="all", shuffle=False)
        batches = [jax.device_put(batch) for batch in loader]
        whole = analysis_loader(str(store), config, "all")

        # The loss and what is reported of it, without the gradient.
        forward = make_steps(network, config.training, make_schedule(config.training, 1)).evaluate
        schema = ResultsSchema(
            experiment="bench",
            checkpoint="best",
            epoch=1,
            split="all",
            n_molecules=loader.n_molecules,
            n_dcm=n_dcm,
            config=config.model_dump(mode="json"),
            versions={},
        )

        def all_forward():
            for batch in batches:
                jax.block_until_ready(forward(model.params, batch))

        def all_analysis():
            # Multipoles are fitted to 200 molecules, however many there are.
            write_results(
                str(store), "bench", schema, model=model, loader=whole, overwrite=True, ladder=0
            )

        all_forward()
        all_analysis()
        times = [(_seconds(all_forward), _seconds(all_analysis)) for _ in range(ROUNDS)]
    return tuple(zip(*times, strict=True))


def _seconds(function):
    start = time.perf_counter()
    function()
    return time.perf_counter() - start
