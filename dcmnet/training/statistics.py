"""Statistics of errors over valid entries, gathered on the device and merged on the host.

A batch leaves a handful of sums on the device; the host adds them up in float64
when an epoch ends, so the training loop never waits for a number.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Mapping

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from dcmnet.model.observables import Observables
from dcmnet.training.processes.reductions import in_one
from pipeline.loader import MoleculeBatch
from store_schema.units import (
    DEBYE_IN_E_ANGSTROM,
    FIELD_IN_KCAL_PER_MOL,
    HARTREE_IN_KCAL_PER_MOL,
)

# Sums of masked values, enough for mean, deviation, MAE, RMSE and range: how many there are,
# their sum, those of their sizes and squares, and the least and largest. They are one array,
# since fetching many small ones would take as long as small batches do. Entries are exact in
# float32 up to 16 million of a batch.
Sums = Float[Array, "6"]
ENTRIES, TOTAL = 0, 1
_ADDED, _EXTREMES = slice(0, 4), slice(4, 6)
# The least is the largest of the negative values.
_UPWARDS = np.array([-1.0, 1.0], np.float32)


def sums_of(values: Float[Array, "*shape"], mask: Bool[Array, "*shape"]) -> Sums:
    """Returns the sums of the values where the mask is true."""
    kept = jnp.where(mask, values, 0.0)
    return jnp.stack(
        [
            jnp.sum(mask).astype(jnp.float32),
            jnp.sum(kept),
            jnp.sum(jnp.abs(kept)),
            jnp.sum(kept**2),
            jnp.min(jnp.where(mask, values, jnp.inf), initial=jnp.inf),
            jnp.max(jnp.where(mask, values, -jnp.inf), initial=-jnp.inf),
        ]
    )


def batch_statistics(
    predicted: Observables, batch: MoleculeBatch, losses: Mapping[str, Float[Array, " B"]]
) -> dict[str, Sums]:
    """Returns the sums of everything that is reported of a batch.

    Args:
        predicted: Predictions.
        batch: References and masks.
        losses: Weighted loss terms of each molecule.

    Returns:
        By name: ``loss`` and ``loss_TERM`` per molecule, ``esp`` errors per point and
        ``esp_rmse`` per molecule in kcal/mol/e, ``monopole`` errors in e, ``dipole``
        errors in debye, the ``displacement`` of charges in angstrom and, where the batch has
        one, ``field`` errors per component in kcal/mol/e/angstrom.
    """
    # Linearised with the loss they would add a tenth to what is traced of a step.
    predicted, losses = jax.lax.stop_gradient((predicted, dict(losses)))
    molecule = jnp.asarray(batch.molecule_mask)
    atom_mask = jnp.asarray(batch.atom_mask)
    esp_known = molecule & batch.has_esp
    points = jnp.asarray(batch.grid_mask) & esp_known[:, None]
    esp_error = (predicted.esp - batch.esp) * HARTREE_IN_KCAL_PER_MOL
    squared = jnp.sum(jnp.where(points, esp_error**2, 0.0), axis=1)
    rmse = jnp.sqrt(squared / jnp.maximum(jnp.sum(points, axis=1, dtype=squared.dtype), 1))
    atoms = atom_mask & (molecule & batch.has_monopoles)[:, None]
    dipole_known = (molecule & batch.has_dipole)[:, None]
    dipole_error = (predicted.dipole - batch.dipole) / DEBYE_IN_E_ANGSTROM
    displacement = jnp.sqrt(jnp.sum(predicted.displacements**2, axis=-1))
    charges = jnp.broadcast_to(atom_mask[:, :, None], displacement.shape)
    of_molecules = {
        "loss": sum(losses.values(), jnp.zeros(molecule.shape)),
        **{f"loss_{name}": term for name, term in losses.items()},
        "esp_rmse": rmse,
    }
    known = [molecule] * (1 + len(losses)) + [esp_known & jnp.any(points, axis=1)]
    rows = jax.vmap(sums_of)(jnp.stack(list(of_molecules.values())), jnp.stack(known))
    statistics = {
        **dict(zip(of_molecules, jnp.unstack(rows), strict=True)),
        "esp": sums_of(esp_error, points),
        "monopole": sums_of(predicted.monopoles - batch.monopoles, atoms),
        "dipole": sums_of(dipole_error, jnp.broadcast_to(dipole_known, dipole_error.shape)),
        "displacement": sums_of(displacement, charges),
    }
    if batch.electric_field.shape[1]:
        error = (predicted.electric_field - batch.electric_field) * FIELD_IN_KCAL_PER_MOL
        there = batch.grid_mask & (molecule & batch.has_electric_field)[:, None]
        statistics["field"] = sums_of(error, jnp.broadcast_to(there[:, :, None], error.shape))
    return statistics


def added_across(statistics: Mapping[str, Sums], axis: str) -> dict[str, Sums]:
    """Returns the sums of all devices along a mapped axis, on each of them."""
    extremes = {name: sums[_EXTREMES] * _UPWARDS for name, sums in statistics.items()}
    largest = in_one(functools.partial(jax.lax.pmax, axis_name=axis), extremes)
    added = {name: sums[_ADDED] for name, sums in statistics.items()}
    added = in_one(functools.partial(jax.lax.psum, axis_name=axis), added)
    return {name: jnp.concatenate([added[name], largest[name] * _UPWARDS]) for name in statistics}


class Accumulator:
    """Adds up the sums of batches in float64 and turns them into numbers for people."""

    def __init__(self) -> None:
        self._sums: dict[str, np.ndarray] = {}

    def add(self, batches: Iterable[Mapping[str, Sums]]) -> None:
        """Adds batches, fetching them from the device in one transfer."""
        for batch in jax.device_get(list(batches)):
            for name, sums in batch.items():
                new = np.array(sums, dtype=np.float64)
                old = self._sums.get(name)
                self._sums[name] = new if old is None else _merged(old, new)

    def state(self) -> dict[str, list[float]]:
        """Returns the sums as plain numbers, for a checkpoint."""
        return {name: sums.tolist() for name, sums in self._sums.items()}

    def restore(self, state: Mapping[str, list[float]]) -> None:
        """Takes the sums from a checkpoint."""
        self._sums = {name: np.array(sums, dtype=np.float64) for name, sums in state.items()}

    def metrics(self) -> dict[str, float]:
        """Returns means of losses and ``esp_rmse``, and all statistics of each error.

        Keys are such as ``loss``, ``esp_rmse`` (mean over molecules, kcal/mol/e),
        ``esp_mae``, ``monopole_rmse`` (e), ``dipole_mae`` (D), ``displacement_max``
        (angstrom). A quantity without a single reference is left out.
        """
        numbers = {}
        for name, sums in self._sums.items():
            count, total, absolute, square, minimum, maximum = sums
            if not count:
                continue
            mean = total / count
            if name.startswith("loss") or name == "esp_rmse":
                numbers[name] = mean
                continue
            numbers[f"{name}_mae"] = absolute / count
            numbers[f"{name}_rmse" if name != "esp" else "esp_rmse_points"] = math.sqrt(
                square / count
            )
            numbers[f"{name}_mean"] = mean
            numbers[f"{name}_std"] = math.sqrt(max(square / count - mean**2, 0.0))
            numbers[f"{name}_min"] = minimum
            numbers[f"{name}_max"] = maximum
        return {name: float(value) for name, value in numbers.items()}


def _merged(old: np.ndarray, new: np.ndarray) -> np.ndarray:
    extremes = np.maximum(old[_EXTREMES] * _UPWARDS, new[_EXTREMES] * _UPWARDS) * _UPWARDS
    return np.concatenate([old[_ADDED] + new[_ADDED], extremes])
