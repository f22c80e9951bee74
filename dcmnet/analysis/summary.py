"""What an analysis comes to by molecule: a table, and how its columns are distributed."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import pandas as pd
import xarray as xr

from dcmnet.analysis.grouping import (
    by_charge,
    by_size,
    elements_of,
    formulas,
)
from dcmnet.analysis.statistics import (
    ERROR_COLUMNS,
    Distribution,
    MoleculeGrouping,
    WorstMolecule,
)
from pipeline.inference.multipoles import traceless
from store_schema.names import MOLECULE, RESULTS_GROUP
from store_schema.units import DEBYE_IN_E_ANGSTROM

_WORST = 10
# Molecules whose atoms are read at once.
_BLOCK = 2**15
_COPIED = (
    "esp_rmse",
    "esp_mae",
    "esp_mean",
    "esp_p50",
    "esp_p95",
    "esp_max",
    "esp_correlation",
    "esp_rmse_monopoles",
    "esp_rmse_fitted",
    "monopole_mae",
    "displacement_mean",
    "displacement_max",
)


def molecule_table(tree: xr.DataTree, name: str) -> pd.DataFrame:
    """Returns one row for each analysed molecule of a results group.

    Args:
        tree: The store.
        name: Name of the results group.

    Returns:
        As `table_of`.
    """
    return table_of(tree.to_dataset(), tree[f"{RESULTS_GROUP}/{name}"].to_dataset())


def table_of(molecules: xr.Dataset, results: xr.Dataset) -> pd.DataFrame:
    """Returns one row for each analysed molecule.

    Args:
        molecules: The store's root group.
        results: Variables of a results group.

    Returns:
        By row of the store: ``molecule_id``, ``formula``, ``split``, ``total_charge``,
        ``n_atoms``, ``n_grid``; ``esp_rmse``, ``esp_mae``, ``esp_mean``, ``esp_p50``,
        ``esp_p95``, ``esp_max`` (kcal/mol/e) and ``esp_correlation``;
        ``esp_rmse_monopoles`` and ``esp_rmse_fitted`` (kcal/mol/e); ``monopole_mae``
        (e); ``displacement_mean`` and ``displacement_max`` (angstrom); ``dipole_error``,
        the norm of the difference (D); ``quadrupole_error``, the Frobenius norm of the
        difference of the traceless parts (D*angstrom). NaN where the reference is absent.
    """
    rows = np.flatnonzero(results["split"].values != "")
    table = pd.DataFrame(
        {
            "molecule_id": molecules["molecule_id"].values[rows].astype(object),
            "formula": _formulas(molecules, rows),
            "split": results["split"].values[rows].astype(object),
            "total_charge": _column(molecules, "total_charge", rows),
            "n_atoms": molecules["n_atoms"].values[rows],
            "n_grid": molecules["n_grid"].values[rows],
            **{name: _column(results, name, rows) for name in _COPIED},
        },
        index=pd.Index(rows, name=MOLECULE),
    )
    if "dipole" in molecules and "dipole_predicted" in results:
        error = _column(results, "dipole_predicted", rows) - _column(molecules, "dipole", rows)
        table["dipole_error"] = np.linalg.norm(error, axis=1) / DEBYE_IN_E_ANGSTROM
    if "quadrupole" in molecules and "quadrupole_predicted" in results:
        error = traceless(
            _column(results, "quadrupole_predicted", rows) - _column(molecules, "quadrupole", rows)
        )
        table["quadrupole_error"] = np.linalg.norm(error, axis=(1, 2)) / DEBYE_IN_E_ANGSTROM
    return table


def distributions(
    table: pd.DataFrame,
) -> dict[MoleculeGrouping, dict[str, dict[str, Distribution]]]:
    """Returns the distribution over molecules of each error, by grouping and label."""
    charges = by_charge(table["total_charge"].to_numpy())
    sizes = by_size(table["n_atoms"].to_numpy())
    contained = table["formula"].map(elements_of)
    elements = sorted({element for some in contained for element in some})
    return {
        "all": {"all": _columns(table)},
        "total_charge": _by(table, charges),
        "n_atoms": _by(table, sizes),
        "element": {e: _columns(table[[e in some for some in contained]]) for e in elements},
    }


def worst_molecules(table: pd.DataFrame) -> tuple[WorstMolecule, ...]:
    """Returns the molecules with the largest ESP RMSE, the worst first."""
    worst = table.dropna(subset="esp_rmse").nlargest(_WORST, "esp_rmse").reset_index()
    fields = worst[list(WorstMolecule.model_fields)].astype(object)
    return tuple(
        WorstMolecule.model_validate(row)
        for row in fields.where(fields.notna(), None).to_dict("records")
    )


def distribution(values: npt.ArrayLike) -> Distribution:
    """Returns the distribution of the values that are there."""
    array = np.asarray(values, np.float64)
    known = array[np.isfinite(array)]
    if not known.size:
        return Distribution(count=0)
    quantiles = np.quantile(known, (0.0, 0.5, 0.75, 0.9, 0.95, 0.99, 1.0))
    names = ("min", "median", "p75", "p90", "p95", "p99", "max")
    return Distribution(
        count=known.size,
        mean=float(known.mean()),
        std=float(known.std()),
        **dict(zip(names, map(float, quantiles), strict=True)),
    )


def units(table: pd.DataFrame) -> Mapping[str, str]:
    """Returns the unit of each error column of a table."""
    return {name: unit for name, unit in ERROR_COLUMNS.items() if name in table}


def _by(table: pd.DataFrame, groups: pd.Categorical) -> dict[str, dict[str, Distribution]]:
    grouped = table.groupby(groups, observed=True)
    return {str(label): _columns(part) for label, part in grouped}


def _columns(table: pd.DataFrame) -> dict[str, Distribution]:
    return {name: distribution(table[name]) for name in ERROR_COLUMNS if name in table}


def _column(dataset: xr.Dataset, name: str, rows: np.ndarray) -> np.ndarray:
    if name not in dataset:
        return np.full(rows.size, np.nan)
    return dataset[name].values[rows].astype(np.float64)


def _formulas(molecules: xr.Dataset, rows: np.ndarray) -> list[str]:
    found: list[str] = []
    numbers = molecules["atomic_numbers"]
    for start in range(0, molecules.sizes[MOLECULE], _BLOCK):
        wanted = rows[(rows >= start) & (rows < start + _BLOCK)]
        if wanted.size:
            block = numbers.isel(molecule=slice(start, start + _BLOCK)).values
            found += formulas(block[wanted - start])
    return found
