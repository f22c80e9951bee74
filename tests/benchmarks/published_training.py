"""Steps of the published implementation (Boittier & Meuwly, arXiv 2602.07234), to compare with.

``DCMNET_PUBLISHED`` names a folder with a checkout of it. Its package is called ``dcmnet`` as ours
is, so it runs in a process of its own. A step takes one molecule, padded to 60 atoms and 3,200
points.
"""

import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context

from tests.benchmarks.plain_training import ATOMS, padded

FOLDER = os.environ.get("DCMNET_PUBLISHED")

# In that process: what runs the steps.
_begun = []


@contextmanager
def published_steps(molecules, model, esp_w):
    """Gives a function that runs a step on each of some molecules and returns the seconds.

    Args:
        molecules: A step each.
        model: Sizes of the network.
        esp_w: Weight of the ESP.
    """
    fields = {
        "features": model.features,
        "max_degree": model.max_degree,
        "num_iterations": model.num_iterations,
        "num_basis_functions": model.num_basis_functions,
        "cutoff": model.cutoff,
        "n_dcm": model.n_dcm,
        "include_pseudotensors": model.include_pseudotensors,
    }
    given = (FOLDER, [padded(molecule) for molecule in molecules], fields, esp_w)
    with ProcessPoolExecutor(1, get_context("spawn"), _begin, given) as pool:
        yield lambda: pool.submit(_seconds).result()


def _begin(folder, molecules, fields, esp_w):
    os.environ.pop("XLA_FLAGS", None)  # it sets none
    sys.path.insert(0, folder)
    import e3x
    import jax
    import jax.numpy as jnp
    import optax

    from dcmnet.modules import MessagePassingModel
    from dcmnet.training import train_step

    network, optimizer = MessagePassingModel(**fields), optax.adam(1e-3)
    pair_dst, pair_src = e3x.ops.sparse_pairwise_indices(ATOMS)
    batches = [
        jax.device_put(
            {
                "Z": molecule["atomic_numbers"],
                "R": molecule["positions"],
                "N": molecule["n_atoms"][None],
                "mono": molecule["monopoles"],
                "esp": molecule["esp"][None],
                "vdw_surface": molecule["vdw_surface"][None],
                "n_grid": molecule["n_grid"][None],
                "dst_idx": pair_dst,
                "src_idx": pair_src,
                "batch_segments": jnp.zeros(ATOMS, int),
            }
        )
        for molecule in molecules
    ]
    params = network.init(
        jax.random.key(0), batches[0]["Z"], batches[0]["R"], dst_idx=pair_dst, src_idx=pair_src
    )
    state, n_dcm = optimizer.init(params), network.n_dcm

    def steps():
        nonlocal params, state
        for batch in batches:
            params, state, _ = train_step(
                network.apply, optimizer.update, batch, 1, state, params, esp_w=esp_w, ndcm=n_dcm
            )
        jax.block_until_ready(params)

    steps()
    _begun.append(steps)


def _seconds():
    start = time.perf_counter()
    _begun[0]()
    return time.perf_counter() - start
