"""Where training starts from: random parameters, with biases read off the data."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

import pipeline  # its Store imports Zarr, so it is looked up where it is used
from dcmnet.model import Parameters
from dcmnet.model.compilation import ONCE
from pipeline.loader import MoleculeBatch, make_batch

if TYPE_CHECKING:
    from dcmnet.model import DCMNet

# Molecules whose monopoles are averaged; more do not change a mean that matters.
_MOLECULES = 16_384


def initial_parameters(network: DCMNet, seed: int) -> Parameters:
    """Returns freshly initialised parameters."""
    # Compiled as a whole, so that XLA's cache keeps it; op by op costs seconds every time.
    initialize = jax.jit(network.init, compiler_options=ONCE)
    return dict(initialize(jax.random.key(seed), _smallest_batch(network)))


def parameter_shapes(network: DCMNet) -> Parameters:
    """Returns the tree of parameters as ``jax.ShapeDtypeStruct``, without computing it."""
    return dict(jax.eval_shape(network.init, jax.random.key(0), _smallest_batch(network)))


def zero_parameters(network: DCMNet) -> Parameters:
    """Returns parameters that are all 0."""
    shapes = parameter_shapes(network)
    return dict(jax.tree.map(lambda leaf: jnp.asarray(np.zeros(leaf.shape, leaf.dtype)), shapes))


def _smallest_batch(network: DCMNet) -> MoleculeBatch:
    hydrogen = {"atomic_numbers": [1, 1], "positions": [[0.0, 0.0, 0.0], [0.0, 0.0, 0.74]]}
    return make_batch([hydrogen], cutoff=network.cutoff)


def mean_monopoles(
    store: str | Path, rows: Int[np.ndarray, " n"], max_atomic_number: int
) -> Float[np.ndarray, " element"]:
    """Returns the mean reference monopole of each element, in e; 0 where there is none.

    Raises:
        StoreError: There is no store, or a chunk of it is damaged.
    """
    opened = pipeline.Store.at(store)
    molecules = opened.tree().to_dataset()
    if "monopoles" not in molecules:
        return np.zeros(max_atomic_number + 1)
    some = molecules[["atomic_numbers", "monopoles"]].isel(molecule=np.sort(rows)[:_MOLECULES])
    with opened.reading():
        numbers, monopoles = some["atomic_numbers"].values, some["monopoles"].values
    known = (numbers > 0) & (numbers <= max_atomic_number) & np.isfinite(monopoles)
    size = max_atomic_number + 1
    total = np.bincount(numbers[known], weights=monopoles[known], minlength=size)
    return total / np.maximum(np.bincount(numbers[known], minlength=size), 1)


def with_element_bias(
    params: Parameters, monopoles: Float[np.ndarray, " element"], n_dcm: int
) -> Parameters:
    """Returns parameters whose bias gives each element its mean monopole, shared by its charges."""
    inner = params["params"]
    bias = jnp.asarray(monopoles / n_dcm, jnp.float32)
    head = {**inner["charge_head"], "element_bias": bias}
    return {**params, "params": {**inner, "charge_head": head}}
