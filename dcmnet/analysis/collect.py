"""Gathers the statistics of an analysis over its batches."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import pandas as pd
from ase.data import chemical_symbols

from dcmnet.analysis.accumulators import (
    ErrorSums,
    SpreadSums,
    reference_runs,
    run_errors,
    run_starts,
)
from dcmnet.analysis.grouping import SHELLS, shell_labels, shell_of
from dcmnet.analysis.predict import BatchPrediction
from dcmnet.analysis.statistics import LEVELS, Errors, Level, PointGrouping, Spread

_ELEMENTS = len(chemical_symbols)
_PLACES = _ELEMENTS * len(SHELLS)
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
        n_cells = len(self._charges) * len(self._sizes)
        self._by_place = {level: ErrorSums(_PLACES) for level in LEVELS}
        self._by_molecule = {level: ErrorSums(n_cells) for level in LEVELS}
        self._monopoles = ErrorSums(_ELEMENTS)
        self._charge = SpreadSums(_ELEMENTS, *_CHARGE_BINS)
        self._displacement = SpreadSums(_ELEMENTS, *_DISPLACEMENT_BINS)

    def add(self, predicted: BatchPrediction) -> None:
        """Adds a batch."""
        self._add_points(predicted)
        batch = predicted.batch
        numbers = batch.atomic_numbers
        known = batch.atom_mask & batch.has_monopoles[:, None]
        self._monopoles.add(numbers[known], predicted.monopoles[known], batch.monopoles[known])
        atoms = batch.atom_mask
        of_charge = np.repeat(numbers[atoms], predicted.charges.shape[-1])
        self._charge.add(of_charge, predicted.charges[atoms].ravel())
        self._displacement.add(of_charge, predicted.displacement[atoms].ravel())

    def _add_points(self, predicted: BatchPrediction) -> None:
        batch = predicted.batch
        element = np.take_along_axis(batch.atomic_numbers, predicted.nearest, axis=1)
        place = element * len(SHELLS) + shell_of(predicted.distance)
        molecules, width = place.shape
        # Points of a molecule with the same place become neighbours. They are sorted by
        # counting, which numpy does with 16 bits.
        order = np.argsort(place.astype(np.int16), axis=1, kind="stable")
        order = (order + width * np.arange(molecules)[:, None]).ravel()
        cell = (place + _PLACES * np.arange(molecules)[:, None]).ravel()
        reference = predicted.reference.ravel()
        known: np.ndarray | None = None
        for level in LEVELS:
            points = predicted.points[level]
            if known is None or not np.array_equal(points, known):  # mostly the same for all
                known = points
                chosen = order[points.ravel()[order]]
                cells = cell[chosen]
                runs = reference_runs(run_starts(cells), reference[chosen])
                row, place_of_run = np.divmod(cells[runs.starts], _PLACES)
                of_molecule = self._molecule_cell[batch.molecule_index[row]]
            errors = run_errors(runs, predicted.esp[level].ravel()[chosen])
            self._by_place[level].add_runs(place_of_run, errors)
            self._by_molecule[level].add_runs(of_molecule, errors)

    def points(self) -> dict[PointGrouping, dict[str, dict[Level, Errors]]]:
        """Returns the errors over points, by grouping, label and level."""
        n_sizes, n_shells = len(self._sizes), len(SHELLS)
        places = np.arange(_ELEMENTS * n_shells).reshape(_ELEMENTS, n_shells)
        cells = np.arange(len(self._charges) * n_sizes).reshape(-1, n_sizes)
        all_of_them = {"all": places.ravel().tolist()}
        elements = dict(zip(chemical_symbols, places.tolist(), strict=True))
        shells = dict(zip(shell_labels(), places.T.tolist(), strict=True))
        return {
            "all": _by_label(self._by_place, all_of_them),
            "nearest_element": _by_label(self._by_place, elements),
            "shell": _by_label(self._by_place, shells),
            "total_charge": _by_label(
                self._by_molecule, dict(zip(self._charges, cells.tolist(), strict=True))
            ),
            "n_atoms": _by_label(
                self._by_molecule, dict(zip(self._sizes, cells.T.tolist(), strict=True))
            ),
        }

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


def _by_label(
    sums: Mapping[Level, ErrorSums], labels: Mapping[str, Cells]
) -> dict[str, dict[Level, Errors]]:
    tables = {}
    for label, cells in labels.items():
        found = {level: sums[level].errors(cells) for level in LEVELS}
        errors: dict[Level, Errors] = {level: e for level, e in found.items() if e}
        if errors:
            tables[label] = errors
    return tables
