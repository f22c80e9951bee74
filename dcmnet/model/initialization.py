"""Where training starts from: random parameters, with biases read off the data."""

from __future__ import annotations

from pathlib import Path

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

import pipeline  # its Store imports Zarr, so it is looked up where it is used
from dcmnet import model as networks
from dcmnet.config import ModelConfig
from dcmnet.model import Parameters
from dcmnet.model.compilation import ONCE
from dcmnet.model.tracing import Program, traced_once
from pipeline.loader import make_batch

# Molecules whose monopoles are averaged; more do not change a mean that matters.
_MOLECULES = 16_384


def initial_parameters(config: ModelConfig, seed: int) -> Parameters:
    """Returns freshly initialised parameters."""
    # Compiled as a whole, so that XLA's cache keeps it; op by op costs seconds every time.
    initialize = jax.jit(_initialization(config).call, compiler_options=ONCE)
    return dict(initialize(jax.random.key_data(jax.random.key(seed))))


def parameter_shapes(config: ModelConfig) -> Parameters:
    """Returns the tree of parameters as ``jax.ShapeDtypeStruct``, without computing it."""
    program = _initialization(config)
    return dict(jax.tree.unflatten(program.out_tree, program.out_avals))


def zero_parameters(config: ModelConfig) -> Parameters:
    """Returns parameters that are all 0."""
    shapes = parameter_shapes(config)
    return dict(jax.tree.map(lambda leaf: jnp.asarray(np.zeros(leaf.shape, leaf.dtype)), shapes))


def _initialization(config: ModelConfig) -> Program:
    """Returns the program that makes parameters of the numbers that a key is."""
    key = jax.random.key_data(jax.random.key(0))

    def trace() -> Program:
        network = networks.create_model(config)
        hydrogen = {"atomic_numbers": [1, 1], "positions": [[0.0, 0.0, 0.0], [0.0, 0.0, 0.74]]}
        smallest = make_batch([hydrogen], cutoff=config.cutoff)

        @jax.jit
        def initialize(key_data: Array) -> Parameters:
            return dict(network.init(jax.random.wrap_key_data(key_data), smallest))

        return jax.export.export(initialize)(key)

    return traced_once(f"initialization {config.model_dump_json()}", trace)


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
