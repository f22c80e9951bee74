"""Runs a trained network and the reference levels over batches."""

from __future__ import annotations

import functools
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Shaped

from dcmnet import model as networks
from dcmnet.analysis.grouping import NOWHERE
from dcmnet.analysis.point_errors import MoleculeSums, correlation, row_quantiles
from dcmnet.analysis.reference_levels import GridLevels, grid_levels
from dcmnet.config import ModelConfig
from dcmnet.model import Parameters
from dcmnet.model.observables import observe
from dcmnet.model.tracing import by_shape
from dcmnet.model.trained import TrainedModel, stacked
from pipeline.loader import MoleculeBatch
from store_schema.problems import TrainingError
from store_schema.results import RESULT_VARIABLES
from store_schema.units import FIELD_IN_KCAL_PER_MOL, HARTREE_IN_KCAL_PER_MOL

Values = dict[str, np.ndarray]

_AHEAD = 2  # batches under way while one is looked at


class Predicted(NamedTuple):
    """What the network says of a batch, on the device or the host; padding is meaningless.

    Attributes:
        charges: Distributed charges, e.
        positions: Their positions, angstrom.
        displacement: Distance of each from its nucleus, angstrom; 0 at padding.
        monopoles: Sum of each atom's charges, e.
        dipole: e*angstrom.
        quadrupole: e*angstrom^2.
        potential: ESP of the distributed charges, hartree/e.
        electric_field: Field of the distributed charges, hartree/e/bohr; F is 0 without a
            reference.
        averaged: Mean ESP of all members of an ensemble; None of a model alone.
        spread: Standard deviation of the members' ESPs, hartree/e, calibrated.
    """

    charges: Float[Any, "B A D"]
    positions: Float[Any, "B A D 3"]
    displacement: Float[Any, "B A D"]
    monopoles: Float[Any, "B A"]
    dipole: Float[Any, "B 3"]
    quadrupole: Float[Any, "B 3 3"]
    potential: Float[Any, "B G"]
    electric_field: Float[Any, "B F 3"]
    averaged: Float[Any, "B G"] | None = None
    spread: Float[Any, "B G"] | None = None


class BatchPrediction(NamedTuple):
    """What is known of a batch, on the host.

    Attributes:
        batch: The batch.
        model: What the network says.
        levels: Its errors and those of the reference levels.
        known: Which molecules each of ``LEVELS`` says something of.
    """

    batch: MoleculeBatch
    model: Predicted
    levels: GridLevels
    known: Bool[np.ndarray, "level B"]


jax.export.register_namedtuple_serialization(Predicted, serialized_name="dcmnet.Predicted")


def _predicted(config: ModelConfig, params: Parameters, batch: MoleculeBatch) -> Predicted:
    network = networks.create_model(config)
    charges, positions = networks.distributed_charges(network, params, batch)
    seen = observe(charges, positions, batch)
    return Predicted(
        charges=charges,
        positions=positions,
        displacement=jnp.linalg.norm(seen.displacements, axis=-1),
        monopoles=seen.monopoles,
        dipole=seen.dipole,
        quadrupole=seen.quadrupole,
        potential=seen.esp,
        electric_field=seen.electric_field,
    )


def _with_others(
    config: ModelConfig,
    others: Parameters,
    factor: Float[Any, ""],
    predicted: Predicted,
    batch: MoleculeBatch,
) -> Predicted:
    """Adds what the other members of an ensemble, whose parameters are stacked, make of it."""
    network = networks.create_model(config)

    def potential(params: Parameters) -> Float[Array, "B G"]:
        return observe(*networks.distributed_charges(network, params, batch), batch).esp

    every = jnp.concatenate([predicted.potential[None], jax.lax.map(potential, others)])
    return predicted._replace(
        averaged=every.mean(axis=0), spread=factor * jnp.std(every, axis=0, ddof=1)
    )


@functools.cache  # compiled once for a network
def _programs(
    config: ModelConfig, n_others: int
) -> tuple[Callable[..., Predicted], Callable[..., Predicted]]:
    """What predicts a batch with a network, and what adds the others of an ensemble."""
    return (
        by_shape(functools.partial(_predicted, config), "predicted", config),
        by_shape(functools.partial(_with_others, config), f"with {n_others} others", config),
    )


def predict_batches(
    model: TrainedModel, batches: Iterable[MoleculeBatch]
) -> Iterator[BatchPrediction]:
    """Predicts batch after batch; those that follow are computed while one is looked at.

    Args:
        model: The trained network.
        batches: Batches with grid fields and targets.

    Raises:
        TrainingError: The network's prediction for a molecule is not finite.
    """
    under_way: deque[tuple[MoleculeBatch, Predicted, GridLevels]] = deque()
    of_one, with_others = _programs(model.config, len(model.ensemble))
    others = stacked(model.ensemble) if model.ensemble else None
    factor = np.float32(model.calibration_factor)
    for batch in batches:
        predicted = of_one(model.params, batch)
        if others is not None:
            predicted = with_others(others, factor, predicted, batch)
        under_way.append((batch, predicted, grid_levels(batch, predicted.potential)))
        if len(under_way) > _AHEAD:
            yield _fetched(*under_way.popleft())
    while under_way:
        yield _fetched(*under_way.popleft())


def _fetched(batch: MoleculeBatch, predicted: Predicted, levels: GridLevels) -> BatchPrediction:
    predicted, levels = jax.tree.map(np.asarray, (predicted, levels))
    _refuse_nonsense(batch, predicted)
    every = np.ones_like(batch.has_monopoles)
    known = np.stack([every, batch.has_monopoles, every])  # in the order of LEVELS
    return BatchPrediction(batch, predicted, levels, known)


def _refuse_nonsense(batch: MoleculeBatch, predicted: Predicted) -> None:
    # Each charge and position goes into the dipole; one that is not finite shows there.
    lost = batch.molecule_mask & ~np.isfinite(predicted.dipole).all(axis=1)
    if lost.any():
        raise TrainingError.of(
            f"the network's prediction for molecule {batch.molecule_index[lost][0]} of the store",
            wrong="charges or positions are NaN or infinity",
            consequence="no statistics can be made, and no results are written",
            remedy="Use a checkpoint from before the training diverged, "
            "or look at the positions of this molecule",
        )


def result_values(
    predicted: BatchPrediction, sums: MoleculeSums, sizes: Mapping[str, int]
) -> tuple[Int[np.ndarray, " n"], Values]:
    """Returns rows of the store and, for these molecules, the variables of a results group.

    Args:
        predicted: A batch.
        sums: What its errors add up to.
        sizes: Lengths of the store's long dimensions; a batch may be padded beyond.

    Returns:
        Rows and values (``store_schema.results``), NaN on padding and where a reference
        is absent.
    """
    batch, model = predicted.batch, predicted.model
    atoms = batch.atom_mask
    errors = _molecule_errors(predicted, sums.esp)
    values = {
        "charges": _masked(model.charges, atoms),
        "charge_positions": _masked(model.positions, atoms),
        "esp_predicted": _masked(model.potential, batch.grid_mask),
        "monopoles_predicted": _masked(model.monopoles, atoms),
        "monopoles_fitted": _masked(
            predicted.levels.fitted, atoms & np.isfinite(errors["esp_rmse"])[:, None]
        ),
        "dipole_predicted": model.dipole,
        "quadrupole_predicted": model.quadrupole,
        **errors,
        **_ensemble_errors(predicted),
        "field_rmse": _field_rmse(batch, model.electric_field),
        "monopole_mae": sums.monopoles[2] / _number(sums.monopoles[0]),
        "displacement_mean": model.displacement.sum(axis=(1, 2), dtype=np.float64)
        / _number(atoms.sum(axis=1) * model.displacement.shape[-1]),
        "displacement_max": model.displacement.max(axis=(1, 2)),
    }
    real = batch.molecule_mask
    trimmed = {
        name: array[(real, *(slice(sizes.get(dim)) for dim in RESULT_VARIABLES[name].dims[1:]))]
        for name, array in values.items()
    }
    return batch.molecule_index[real], trimmed


def _molecule_errors(predicted: BatchPrediction, sums: Float[np.ndarray, "8 level B"]) -> Values:
    """Returns the errors of each molecule over its points, kcal/mol/e; NaN without any."""
    count = _number(sums[0])
    rmse = np.sqrt(sums[3] / count)
    reference, esp, *_ = predicted.levels.esp
    points = predicted.levels.place != NOWHERE
    median, p95, largest = row_quantiles(np.abs(esp - reference), points, (0.5, 0.95, 1.0))
    return {
        "esp_rmse": rmse[0],
        "esp_rmse_monopoles": rmse[1],
        "esp_rmse_fitted": rmse[2],
        "esp_mae": (sums[2] / count)[0],
        "esp_mean": (sums[1] / count)[0],
        "esp_p50": median,
        "esp_p95": p95,
        "esp_max": largest,
        "esp_correlation": correlation(sums[:, 0]),
    }


def _field_rmse(
    batch: MoleculeBatch, predicted: Float[np.ndarray, "B F 3"]
) -> Float[np.ndarray, " B"]:
    """Returns the RMSE of the field's components, kcal/mol/e/angstrom; NaN without a reference."""
    if not predicted.shape[1]:
        return np.full(len(predicted), np.nan)
    points = batch.grid_mask & (batch.has_electric_field & batch.molecule_mask)[:, None]
    components = np.broadcast_to(points[:, :, None], predicted.shape).reshape(len(predicted), -1)
    error = (predicted - batch.electric_field).reshape(components.shape)
    return _rms(error, components) * FIELD_IN_KCAL_PER_MOL


def _ensemble_errors(predicted: BatchPrediction) -> Values:
    """Returns what an ensemble says of each molecule, kcal/mol/e; NaN of a model alone."""
    model, points = predicted.model, predicted.levels.place != NOWHERE
    if model.averaged is None or model.spread is None:
        nothing = np.full(len(points), np.nan)
        return {"esp_uncertainty": nothing, "esp_rmse_averaged": nothing}
    errors = model.averaged * HARTREE_IN_KCAL_PER_MOL - predicted.levels.esp[0]
    return {
        "esp_uncertainty": _rms(model.spread, predicted.batch.grid_mask) * HARTREE_IN_KCAL_PER_MOL,
        "esp_rmse_averaged": _rms(errors, points),
    }


def _rms(
    values: Float[np.ndarray, "B G"], points: Bool[np.ndarray, "B G"]
) -> Float[np.ndarray, " B"]:
    """Returns the root mean square of each row, NaN without any point."""
    squares = np.square(np.where(points, values, 0.0), dtype=np.float64)
    return np.sqrt(squares.sum(axis=1) / _number(points.sum(axis=1)))


def _number(count: Shaped[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
    """Returns a number to divide by, NaN for none."""
    return np.where(count, count, np.nan)


def _masked(
    values: Float[np.ndarray, "B N *rest"], mask: Bool[np.ndarray, "B N"]
) -> Float[np.ndarray, "B N *rest"]:
    return np.where(mask.reshape(mask.shape + (1,) * (values.ndim - 2)), values, np.nan)
