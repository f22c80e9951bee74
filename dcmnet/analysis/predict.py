"""Runs a trained network over batches, beside the reference levels, batch by batch."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from dcmnet.analysis.accumulators import molecule_errors, molecule_rmse
from dcmnet.analysis.reference_levels import GridReference, grid_reference
from dcmnet.analysis.statistics import Level
from dcmnet.experiment import TrainedModel
from dcmnet.model import DCMNet, Parameters, distributed_charges
from dcmnet.observables import Observables, observe
from pipeline.loader import MoleculeBatch
from store_schema.results import RESULT_VARIABLES
from store_schema.units import HARTREE_IN_KCAL_PER_MOL

Values = dict[str, np.ndarray]


class BatchPrediction(NamedTuple):
    """What is known of a batch, on the host; padding is meaningless.

    Attributes:
        batch: The batch.
        charges: Distributed charges, e.
        charge_positions: Their positions, angstrom.
        displacement: Distance of each from its nucleus, angstrom; 0 at padding.
        monopoles: Sum of each atom's charges, e.
        dipole: e*angstrom.
        quadrupole: e*angstrom^2.
        potential: ESP of the distributed charges, hartree/e.
        fitted: Charges on the atoms fitted to the ESP, e.
        reference: ESP, kcal/mol/e.
        esp: ESP of each level, kcal/mol/e.
        points: True where a level has a prediction and there is a reference.
        nearest: The atom nearest to each point, in van der Waals radii.
        distance: The distance to it, in that unit.
    """

    batch: MoleculeBatch
    charges: Float[np.ndarray, "B A D"]
    charge_positions: Float[np.ndarray, "B A D 3"]
    displacement: Float[np.ndarray, "B A D"]
    monopoles: Float[np.ndarray, "B A"]
    dipole: Float[np.ndarray, "B 3"]
    quadrupole: Float[np.ndarray, "B 3 3"]
    potential: Float[np.ndarray, "B G"]
    fitted: Float[np.ndarray, "B A"]
    reference: Float[np.ndarray, "B G"]
    esp: dict[Level, Float[np.ndarray, "B G"]]
    points: dict[Level, Bool[np.ndarray, "B G"]]
    nearest: Int[np.ndarray, "B G"]
    distance: Float[np.ndarray, "B G"]


@functools.partial(jax.jit, static_argnums=0)  # compiled once for a network
def _observed(
    network: DCMNet, params: Parameters, batch: MoleculeBatch
) -> tuple[Observables, Float[Array, "B A D 3"]]:
    charges, positions = distributed_charges(network, params, batch)
    return observe(charges, positions, batch), positions


def predict_batches(
    model: TrainedModel, batches: Iterable[MoleculeBatch]
) -> Iterator[BatchPrediction]:
    """Predicts batch after batch; one is computed while the one before is looked at.

    Args:
        model: The trained network.
        batches: Batches with grid fields and targets.
    """
    waiting: tuple[MoleculeBatch, Any] | None = None
    for batch in batches:
        under_way = _observed(model.network, model.params, batch), grid_reference(batch)
        if waiting is not None:
            yield _fetched(*waiting)
        waiting = batch, under_way
    if waiting is not None:
        yield _fetched(*waiting)


def _fetched(
    batch: MoleculeBatch, under_way: tuple[tuple[Observables, Array], GridReference]
) -> BatchPrediction:
    (observables, positions), grid = jax.device_get(under_way)
    known: Bool[np.ndarray, "B G"] = (
        batch.grid_mask & (batch.has_esp & batch.molecule_mask)[:, None]
    )
    esp: dict[Level, Float[np.ndarray, "B G"]] = {
        "model": observables.esp,
        "monopoles": grid.esp_monopoles,
        "fitted": grid.esp_fitted,
    }
    return BatchPrediction(
        batch=batch,
        charges=observables.charges,
        charge_positions=positions,
        displacement=np.linalg.norm(observables.displacements, axis=-1),
        monopoles=observables.monopoles,
        dipole=observables.dipole,
        quadrupole=observables.quadrupole,
        potential=observables.esp,
        fitted=grid.fitted,
        reference=batch.esp * np.float32(HARTREE_IN_KCAL_PER_MOL),
        esp={level: e * np.float32(HARTREE_IN_KCAL_PER_MOL) for level, e in esp.items()},
        points={
            "model": known,
            "monopoles": known & batch.has_monopoles[:, None],
            "fitted": known,
        },
        nearest=grid.nearest,
        distance=grid.distance,
    )


def result_values(
    predicted: BatchPrediction, sizes: Mapping[str, int]
) -> tuple[Int[np.ndarray, " n"], Values]:
    """Returns rows of the store and, for these molecules, the variables of a results group.

    Args:
        predicted: A batch.
        sizes: Lengths of the store's long dimensions; a batch may be padded beyond.

    Returns:
        Rows and values (``store_schema.results``), NaN on padding and where a reference
        is absent.
    """
    batch = predicted.batch
    atoms = batch.atom_mask
    has_fit = np.asarray(predicted.points["fitted"].any(axis=1, keepdims=True))
    of_model = molecule_errors(
        predicted.esp["model"], predicted.reference, predicted.points["model"]
    )
    values = {
        "charges": _masked(predicted.charges, atoms),
        "charge_positions": _masked(predicted.charge_positions, atoms),
        "esp_predicted": _masked(predicted.potential, batch.grid_mask),
        "monopoles_predicted": _masked(predicted.monopoles, atoms),
        "monopoles_fitted": _masked(predicted.fitted, atoms & has_fit),
        "dipole_predicted": predicted.dipole,
        "quadrupole_predicted": predicted.quadrupole,
        **{f"esp_{name}": numbers for name, numbers in of_model.items()},
        "esp_rmse_monopoles": molecule_rmse(
            predicted.esp["monopoles"], predicted.reference, predicted.points["monopoles"]
        ),
        "esp_rmse_fitted": molecule_rmse(
            predicted.esp["fitted"], predicted.reference, predicted.points["fitted"]
        ),
        "monopole_mae": _mean_size(
            predicted.monopoles - batch.monopoles, atoms & batch.has_monopoles[:, None]
        ),
        "displacement_mean": _mean_size(predicted.displacement.mean(axis=-1), atoms),
        "displacement_max": predicted.displacement.max(axis=(1, 2)),
    }
    real = batch.molecule_mask
    trimmed = {
        name: array[(real, *(slice(sizes.get(dim)) for dim in RESULT_VARIABLES[name].dims[1:]))]
        for name, array in values.items()
    }
    return batch.molecule_index[real], trimmed


def _mean_size(
    values: Float[np.ndarray, "B A"], mask: Bool[np.ndarray, "B A"]
) -> Float[np.ndarray, " B"]:
    count = mask.sum(axis=1)
    total = np.where(mask, np.abs(values.astype(np.float64)), 0.0).sum(axis=1)
    return total / np.where(count, count, np.nan)


def _masked(
    values: Float[np.ndarray, "B N *rest"], mask: Bool[np.ndarray, "B N"]
) -> Float[np.ndarray, "B N *rest"]:
    return np.where(mask.reshape(mask.shape + (1,) * (values.ndim - 2)), values, np.nan)
