"""The statistics of an analysis: what they are called, what they mean, how to get them.

They are made while predicting, over valid points only, and lie in the attribute
``statistics`` of the results group; ``best_analysis.json`` is the same for people.
docs/analysis.md has the formulae.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final, Literal

import pandas as pd
import xarray as xr
from pydantic import AfterValidator, BaseModel, ConfigDict

from dcmnet.experiment.directory import Experiment
from dcmnet.model.calibration import Calibration
from pipeline import open_store
from store_schema.names import RESULTS_GROUP
from store_schema.problems import StoreError

STATISTICS_ATTRIBUTE: Final = "statistics"

# What the ESP is held against the reference: that of the distributed charges, of the
# stored monopoles, and of the charges on the atoms that fit each molecule's ESP best.
Level = Literal["model", "monopoles", "fitted"]
LEVELS: Final[tuple[Level, ...]] = ("model", "monopoles", "fitted")

# What grid points are grouped by: nothing, the element of the nearest atom, the distance
# to it, the total charge of the molecule and its number of atoms. Distances are in van
# der Waals radii of the atom, and so is nearest.
PointGrouping = Literal["all", "nearest_element", "shell", "total_charge", "n_atoms"]

# What molecules are grouped by; by element, a molecule belongs to each that it contains.
MoleculeGrouping = Literal["all", "total_charge", "n_atoms", "element"]

# Columns of the molecule table that are errors, and their units.
ERROR_COLUMNS: Final = {
    "esp_rmse": "kcal/mol/e",
    "esp_mae": "kcal/mol/e",
    "esp_max": "kcal/mol/e",
    "esp_rmse_monopoles": "kcal/mol/e",
    "esp_rmse_fitted": "kcal/mol/e",
    "esp_rmse_fitted_dipoles": "kcal/mol/e",
    "esp_rmse_fitted_quadrupoles": "kcal/mol/e",
    "esp_rmse_stored_multipoles": "kcal/mol/e",
    "esp_rmse_averaged": "kcal/mol/e",
    "esp_uncertainty": "kcal/mol/e",
    "field_rmse": "kcal/mol/e/angstrom",
    "monopole_mae": "e",
    "dipole_error": "debye",
    "quadrupole_error": "debye*angstrom",
    "displacement_mean": "angstrom",
    "displacement_max": "angstrom",
}
# How tables for people call them, in the order they show them.
ERROR_LABELS: Final = {
    "esp_rmse": "ESP RMSE",
    "esp_mae": "ESP MAE",
    "esp_max": "largest ESP error",
    "field_rmse": "field RMSE",
    "monopole_mae": "monopole MAE",
    "dipole_error": "dipole error",
    "quadrupole_error": "quadrupole error",
    "displacement_mean": "displacement",
}
_SYMBOLS: Final = {
    "angstrom": "Å",
    "debye": "D",
    "debye*angstrom": "D·Å",
    "kcal/mol/e/angstrom": "kcal/mol/e/Å",
}

# Seven digits are all that float32 has.
Number = Annotated[float, AfterValidator(lambda value: float(f"{value:.7g}"))]


class _Numbers(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Distribution(_Numbers):
    """How a number is distributed over molecules; exact.

    Attributes:
        count: Molecules that have it.
        mean: Their mean; None, as all below, where there is none.
        std: Standard deviation.
        min: Least.
        median: Median.
        p75: 75th percentile.
        p90: 90th percentile.
        p95: 95th percentile.
        p99: 99th percentile.
        max: Largest.
    """

    count: int
    mean: Number | None = None
    std: Number | None = None
    min: Number | None = None
    median: Number | None = None
    p75: Number | None = None
    p90: Number | None = None
    p95: Number | None = None
    p99: Number | None = None
    max: Number | None = None


class Errors(_Numbers):
    """Errors pooled over points, or over atoms: predicted minus reference.

    Attributes:
        count: How many.
        mean: Their mean, the bias.
        mae: Mean absolute error.
        rmse: Root of the mean squared error.
        max: Largest absolute error.
        p50: Median of the absolute error. Percentiles are read off a histogram of 64
            bins an octave, so that memory does not grow with the points: they are
            within 1.6 % of the exact ones.
        p90: Its 90th percentile.
        p95: Its 95th percentile.
        p99: Its 99th percentile.
        correlation: Pearson's, of predicted and reference; None where one is constant.
    """

    count: int
    mean: Number
    mae: Number
    rmse: Number
    max: Number
    p50: Number
    p90: Number
    p95: Number
    p99: Number
    correlation: Number | None


class Spread(_Numbers):
    """Values of single charges, or of their displacements.

    Attributes:
        count: How many.
        mean: Mean.
        std: Standard deviation.
        min: Least.
        max: Largest.
        start: Lower edge of the first bin of the histogram.
        width: Width of a bin.
        counts: Values in each bin; the outermost bins of the full range also take what
            lies beyond.
    """

    count: int
    mean: Number
    std: Number
    min: Number
    max: Number
    start: Number
    width: Number
    counts: tuple[int, ...]


class WorstMolecule(_Numbers):
    """A molecule with a large error.

    Attributes:
        molecule: Its row in the store.
        molecule_id: Its name.
        formula: Such as ``C2H6O``.
        split: Its split in the experiment.
        total_charge: e; None where unknown.
        esp_rmse: kcal/mol/e.
        esp_rmse_monopoles: kcal/mol/e; None without stored monopoles.
        esp_rmse_fitted: kcal/mol/e.
    """

    molecule: int
    molecule_id: str
    formula: str
    split: str
    total_charge: Number | None
    esp_rmse: Number
    esp_rmse_monopoles: Number | None
    esp_rmse_fitted: Number | None


class PointCalibration(_Numbers):
    """Grid points by the error that an ensemble expects there, and the actual error.

    Attributes:
        expected: Root mean square of the expected errors, kcal/mol/e, ascending.
        actual: Root mean square of the actual errors.
        count: Points.
    """

    expected: tuple[Number, ...]
    actual: tuple[Number, ...]
    count: tuple[int, ...]


class EnsembleStatistics(_Numbers):
    """How sure an ensemble is, and how right that is.

    Attributes:
        n_members: Networks, the first of which predicted.
        factor: What spreads were multiplied by to give ``esp_uncertainty``.
        calibration: What the spreads came to here; its factor is the one to take from now on.
        points: By grid point.
    """

    n_members: int
    factor: Number
    calibration: Calibration | None
    points: PointCalibration


class Statistics(_Numbers):
    """All that an analysis came to.

    Attributes:
        n_molecules: Molecules analysed.
        n_points: Grid points with a reference ESP.
        units: Unit of every column of ``molecules``; ``points`` are in kcal/mol/e,
            ``monopoles`` and ``charges`` in e, ``displacements`` in angstrom.
        molecules: By grouping, label and column of the molecule table, the distribution
            over molecules. Labels are such as ``-1``, ``0``, ``+1``; ``5-8`` atoms; ``O``.
        points: By grouping, label and level, ESP errors over grid points. Levels without
            a reference in a group are absent.
        monopoles: By element, and ``all``: errors of each atom's charge against the
            stored monopoles.
        charges: By element, and ``all``: the distributed charges.
        displacements: By element, and ``all``: distance of each charge from its nucleus.
        worst: Molecules with the largest ESP RMSE, the worst first.
        ensemble: How sure the model is; None of one alone, which cannot say.
    """

    n_molecules: int
    n_points: int
    units: dict[str, str]
    molecules: dict[MoleculeGrouping, dict[str, dict[str, Distribution]]]
    points: dict[PointGrouping, dict[str, dict[Level, Errors]]]
    monopoles: dict[str, Errors]
    charges: dict[str, Spread]
    displacements: dict[str, Spread]
    worst: tuple[WorstMolecule, ...]
    ensemble: EnsembleStatistics | None = None

    def point_table(self, by: PointGrouping, level: Level = "model") -> pd.DataFrame:
        """Returns ESP errors over points: a row a label, columns as in `Errors`."""
        rows = {label: e[level].model_dump() for label, e in self.points[by].items() if level in e}
        return pd.DataFrame.from_dict(rows, orient="index").rename_axis(by)

    def molecule_table(self, by: MoleculeGrouping, column: str = "esp_rmse") -> pd.DataFrame:
        """Returns a column's distribution over molecules: a row a label, as `Distribution`."""
        rows = {
            label: columns[column].model_dump()
            for label, columns in self.molecules[by].items()
            if column in columns
        }
        return pd.DataFrame.from_dict(rows, orient="index").rename_axis(by)


def load_statistics(source: str | Path | xr.DataTree, group: str | None = None) -> Statistics:
    """Reads the statistics of an analysis.

    Args:
        source: Directory of an experiment, a store, or an open store.
        group: Name of the results group; for an experiment the one of its best
            checkpoint, where left out.

    Raises:
        StoreError: There is no such group, or it was written without statistics.
    """
    tree, name = _locate(source, group)
    path = f"{RESULTS_GROUP}/{name}"
    exists = RESULTS_GROUP in tree.children and name in tree[RESULTS_GROUP].children
    found = tree[path].attrs.get(STATISTICS_ATTRIBUTE) if exists else None
    if found is None:
        raise StoreError.of(
            f"{source if not isinstance(source, xr.DataTree) else 'store'}, group {path}",
            wrong=("the group has no statistics" if exists else "there is no such group"),
            consequence="there is nothing to show",
            remedy="Run 'dcmnet analyze EXPERIMENT', with --overwrite where it was analysed before",
        )
    return Statistics.model_validate(found)


def _locate(source: str | Path | xr.DataTree, group: str | None) -> tuple[xr.DataTree, str]:
    if isinstance(source, xr.DataTree):
        return source, group or ""
    experiment = Experiment(source)
    if experiment.config_path.exists():
        config = experiment.config()
        return open_store(config.data.store), group or config.name
    return open_store(source), group or ""


def unit_symbol(error: str) -> str:
    """Returns the unit of an error column as tables for people write it, such as ``D``."""
    unit = ERROR_COLUMNS[error]
    return _SYMBOLS.get(unit, unit)
