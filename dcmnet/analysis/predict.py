"""Runs a trained network over batches: the values of a results group, batch by batch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from dcmnet import electrostatics
from dcmnet.experiment import TrainedModel
from dcmnet.model import Parameters, distributed_charges
from dcmnet.observables import observe
from pipeline.loader import MoleculeBatch
from store_schema.results import RESULT_VARIABLES
from store_schema.units import HARTREE_IN_KCAL_PER_MOL

Values = dict[str, np.ndarray]


class _Predicted(NamedTuple):
    charges: Float[Array, "B A D"]
    charge_positions: Float[Array, "B A D 3"]
    esp: Float[Array, "B G"]
    monopoles: Float[Array, "B A"]
    dipole: Float[Array, "B 3"]
    esp_of_monopoles: Float[Array, "B G"]


def predict_batches(
    model: TrainedModel, batches: Iterable[MoleculeBatch], sizes: Mapping[str, int]
) -> Iterator[tuple[Int[np.ndarray, " n"], Values]]:
    """Predicts batch after batch.

    Args:
        model: The trained network.
        batches: Batches with grid fields and targets.
        sizes: Lengths of the store's long dimensions; a batch may be padded beyond.

    Yields:
        Rows of the store and, for these molecules, the variables of a results group
        (``store_schema.results``); NaN on padding and where a reference is absent.
    """

    @jax.jit
    def run(params: Parameters, batch: MoleculeBatch) -> _Predicted:
        charges, positions = distributed_charges(model.network, params, batch)
        observables = observe(charges, positions, batch)
        return _Predicted(
            charges=charges,
            charge_positions=positions,
            esp=observables.esp,
            monopoles=observables.monopoles,
            dipole=observables.dipole,
            esp_of_monopoles=electrostatics.esp(
                jnp.asarray(batch.monopoles),
                jnp.asarray(batch.positions),
                jnp.asarray(batch.vdw_surface),
            ),
        )

    for batch in batches:
        rows, values = _values(run(model.params, batch), batch)
        yield rows, {name: _trimmed(name, array, sizes) for name, array in values.items()}


def _values(on_device: _Predicted, batch: MoleculeBatch) -> tuple[Int[np.ndarray, " n"], Values]:
    predicted: Any = jax.device_get(on_device)
    points = batch.grid_mask & batch.has_esp[:, None]
    rmse, mae = esp_errors(predicted.esp, batch.esp, points)
    of_monopoles, _ = esp_errors(
        predicted.esp_of_monopoles, batch.esp, points & batch.has_monopoles[:, None]
    )
    atoms = batch.atom_mask
    values = {
        "charges": _masked(predicted.charges, atoms),
        "charge_positions": _masked(predicted.charge_positions, atoms),
        "esp_predicted": _masked(predicted.esp, batch.grid_mask),
        "monopoles_predicted": _masked(predicted.monopoles, atoms),
        "dipole_predicted": predicted.dipole,
        "esp_rmse": rmse,
        "esp_mae": mae,
        "esp_rmse_monopoles": of_monopoles,
    }
    real = batch.molecule_mask
    return batch.molecule_index[real], {name: array[real] for name, array in values.items()}


def esp_errors(
    predicted: Float[np.ndarray, "B G"],
    reference: Float[np.ndarray, "B G"],
    points: Bool[np.ndarray, "B G"],
) -> tuple[Float[np.ndarray, " B"], Float[np.ndarray, " B"]]:
    """Returns RMSE and MAE of each molecule's ESP over its valid points, in kcal/mol/e.

    Args:
        predicted: hartree/e.
        reference: hartree/e.
        points: True where a point counts; a molecule without any gets NaN.
    """
    difference = predicted.astype(np.float64) - reference
    error = np.where(points, difference, 0.0) * HARTREE_IN_KCAL_PER_MOL
    count = np.where(points.any(axis=1), points.sum(axis=1), np.nan)
    return np.sqrt((error**2).sum(axis=1) / count), np.abs(error).sum(axis=1) / count


def _trimmed(name: str, array: np.ndarray, sizes: Mapping[str, int]) -> np.ndarray:
    dims = RESULT_VARIABLES[name].dims
    return array[tuple(slice(sizes.get(dim)) for dim in dims)]


def _masked(
    values: Float[np.ndarray, "B N *rest"], mask: Bool[np.ndarray, "B N"]
) -> Float[np.ndarray, "B N *rest"]:
    return np.where(mask.reshape(mask.shape + (1,) * (values.ndim - 2)), values, np.nan)
