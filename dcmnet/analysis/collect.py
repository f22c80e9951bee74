"""Gathers the statistics of an analysis over its batches."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
import pandas as pd
from ase.data import chemical_symbols
from jaxtyping import Int

from dcmnet.analysis.accumulators import ErrorSums, SpreadSums
from dcmnet.analysis.grouping import NOWHERE, PLACES, SHELLS, shell_labels
from dcmnet.analysis.point_calibration import PointCalibrationSums
from dcmnet.analysis.point_errors import MoleculeSums
from dcmnet.analysis.predict import BatchPrediction
from dcmnet.analysis.statistics import (
    LEVELS,
    Errors,
    Level,
    PointCalibration,
    PointGrouping,
    Spread,
)
from store_schema.units import HARTREE_IN_KCAL_PER_MOL

_ELEMENTS = len(chemical_symbols)
# Bins of charges in e and of displacements in angstrom: from, to, width.
_CHARGE_BINS = (-5.0, 5.0, 0.05)
_DISPLACEMENT_BINS = (0.0, 1.0, 0.01)

Cells = list[int]


class StatisticsCollector:
    """Adds up batches; its memory depends on the groups alone.

    Points are counted by the element of the nearest atom and the shell, and by the
    charge and the size of their molecule; what is asked for are sums over these.
    """

    def __init__(self, total_charge: pd.Categorical, n_atoms: pd.Categorical) -> None:
        """Prepares.

        Args:
            total_charge: Group of every molecule of the store, by charge.
            n_atoms: Likewise by size.
        """
        self._charges, self._sizes = total_charge.categories, n_atoms.categories
        self._molecule_cell = total_charge.codes.astype(int) * len(self._sizes) + n_atoms.codes
        sizes = (len(self._charges), len(self._sizes), _ELEMENTS, len(SHELLS))
        self._cells = np.arange(math.prod(sizes)).reshape(sizes)
        self._points = ErrorSums(self._cells.size, len(LEVELS))
        self._monopoles = ErrorSums(_ELEMENTS)
        self._charge = SpreadSums(_ELEMENTS, *_CHARGE_BINS)
        self._displacement = SpreadSums(_ELEMENTS, *_DISPLACEMENT_BINS)
        self._calibration = PointCalibrationSums()

    def add(self, predicted: BatchPrediction) -> MoleculeSums:
        """Adds a batch; returns the sums of its molecules, which are made on the way."""
        batch, model, levels = predicted.batch, predicted.model, predicted.levels
        numbers, atoms = batch.atomic_numbers, batch.atom_mask
        of_charge = np.repeat(numbers[atoms], model.charges.shape[-1])
        self._charge.add(of_charge, model.charges[atoms].ravel())
        self._displacement.add(of_charge, model.displacement[atoms].ravel())
        cell = self._molecule_cell[batch.molecule_index] * PLACES
        reference, esp = levels.esp[0], levels.esp[1:]
        if model.spread is not None:
            expected = model.spread * HARTREE_IN_KCAL_PER_MOL
            self._calibration.add(expected, esp[0] - reference, levels.place != NOWHERE)
        monopoles = self._monopoles.add(
            np.zeros_like(cell),
            np.where(atoms, numbers, NOWHERE),
            model.monopoles[None],
            batch.monopoles,
            batch.has_monopoles[None],
        )
        return MoleculeSums(
            self._points.add(cell, levels.place, esp, reference, predicted.known), monopoles[:, 0]
        )

    def points(self) -> dict[PointGrouping, dict[str, dict[Level, Errors]]]:
        """Returns the errors over points, by grouping, label and level."""
        axes: dict[PointGrouping, tuple[int, Iterable[str]]] = {
            "nearest_element": (2, chemical_symbols),
            "shell": (3, shell_labels()),
            "total_charge": (0, self._charges),
            "n_atoms": (1, self._sizes),
        }
        return {
            "all": self._by_label(["all"], self._cells[None]),
            **{
                grouping: self._by_label(labels, np.moveaxis(self._cells, axis, 0))
                for grouping, (axis, labels) in axes.items()
            },
        }

    def _by_label(
        self, labels: Iterable[str], cells: Int[np.ndarray, "label *rest"]
    ) -> dict[str, dict[Level, Errors]]:
        tables = {}
        for label, some in zip(labels, cells, strict=True):
            found = {level: self._points.errors(some.ravel(), i) for i, level in enumerate(LEVELS)}
            errors: dict[Level, Errors] = {level: e for level, e in found.items() if e}
            if errors:
                tables[label] = errors
        return tables

    def point_calibration(self) -> PointCalibration:
        """Returns the actual errors at points by those that an ensemble expects."""
        return self._calibration.result()

    def monopoles(self) -> dict[str, Errors]:
        """Returns the errors of the atoms' charges, by element."""
        found = {label: self._monopoles.errors(cells) for label, cells in _elements()}
        return {label: errors for label, errors in found.items() if errors}

    def charges(self) -> dict[str, Spread]:
        """Returns the distributed charges, by element."""
        return _spreads(self._charge)

    def displacements(self) -> dict[str, Spread]:
        """Returns their displacements, by element."""
        return _spreads(self._displacement)


def _elements() -> Iterable[tuple[str, Cells]]:
    yield "all", list(range(_ELEMENTS))
    for number, symbol in enumerate(chemical_symbols):
        yield symbol, [number]


def _spreads(sums: SpreadSums) -> dict[str, Spread]:
    found = {label: sums.spread(cells) for label, cells in _elements()}
    return {label: spread for label, spread in found.items() if spread}
