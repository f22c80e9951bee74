"""What an analysis comes to by molecule: a table, and how its columns are distributed."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import pandas as pd
import xarray as xr
from jaxtyping import Bool, Float, Int

from dcmnet.analysis.grouping import (
    by_charge,
    by_size,
    elements_of,
    formulas,
)
from dcmnet.analysis.ladder import LADDER_COLUMNS
from dcmnet.analysis.point_errors import row_quantiles
from dcmnet.analysis.statistics import (
    ERROR_COLUMNS,
    Distribution,
    MoleculeGrouping,
    WorstMolecule,
)
from pipeline.chemistry.fitted_multipoles import traceless
from pipeline.store.base import readable
from store_schema.names import MOLECULE, RESULTS_GROUP
from store_schema.units import DEBYE_IN_E_ANGSTROM

_WORST = 10
# Molecules whose atoms are read at once.
_BLOCK = 2**15
_DESCRIBING = ("molecule_id", "total_charge", "n_atoms", "n_grid", "dipole", "quadrupole")
_QUANTILES = {
    **{"min": 0.0, "median": 0.5, "max": 1.0},
    **{f"p{percent}": percent / 100 for percent in (75, 90, 95, 99)},
}
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
    *LADDER_COLUMNS,
    "esp_rmse_averaged",
    "esp_uncertainty",
    "field_rmse",
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
    results = tree[f"{RESULTS_GROUP}/{name}"].to_dataset()
    rows = np.flatnonzero(results["split"].values != "")
    return table_of(described(tree.to_dataset(), rows), results)


def described(molecules: xr.Dataset, rows: Int[np.ndarray, " row"]) -> xr.Dataset:
    """Reads what a table says of molecules in addition to their results.

    Args:
        molecules: The store's root group.
        rows: Rows of the molecules, ascending.

    Returns:
        In memory, by row of the store: ``molecule_id``, ``formula``, ``n_atoms``, ``n_grid``
        and, where the store has them, ``total_charge``, ``dipole`` and ``quadrupole``.
    """
    names = [name for name in _DESCRIBING if name in molecules]
    with readable(molecules):
        columns = {name: (molecules[name].dims, molecules[name].values[rows]) for name in names}
        formulas = _formulas(molecules, rows)
    return xr.Dataset({**columns, "formula": (MOLECULE, formulas)}, coords={MOLECULE: rows})


def table_of(molecules: xr.Dataset, results: xr.Dataset) -> pd.DataFrame:
    """Returns one row for each analysed molecule.

    Args:
        molecules: As `described`.
        results: Variables of a results group, of all molecules of the store.

    Returns:
        By row of the store: ``molecule_id``, ``formula``, ``split``, ``total_charge``,
        ``n_atoms``, ``n_grid``; ``esp_rmse``, ``esp_mae``, ``esp_mean``, ``esp_p50``,
        ``esp_p95``, ``esp_max`` (kcal/mol/e) and ``esp_correlation``;
        ``esp_rmse_monopoles``, ``esp_rmse_fitted`` and ``LADDER_COLUMNS`` (kcal/mol/e);
        ``esp_rmse_averaged`` and ``esp_uncertainty`` of an ensemble (kcal/mol/e);
        ``monopole_mae`` (e); ``displacement_mean`` and ``displacement_max`` (angstrom);
        ``dipole_error``, the norm of the difference (D); ``quadrupole_error``, the Frobenius
        norm of the difference of the traceless parts (D*angstrom). NaN where the reference is
        absent.
    """
    rows = molecules[MOLECULE].values
    table = pd.DataFrame(
        {
            "molecule_id": molecules["molecule_id"].values.astype(object),
            "formula": molecules["formula"].values,
            "split": results["split"].values[rows].astype(object),
            "total_charge": molecules["total_charge"].values.astype(np.float64)
            if "total_charge" in molecules
            else np.nan,
            "n_atoms": molecules["n_atoms"].values,
            "n_grid": molecules["n_grid"].values,
            **{name: _column(results, name, rows) for name in _COPIED},
        },
        index=pd.Index(rows, name=MOLECULE),
    )
    if "dipole" in molecules and "dipole_predicted" in results:
        error = _column(results, "dipole_predicted", rows) - molecules["dipole"].values
        table["dipole_error"] = np.linalg.norm(error, axis=1) / DEBYE_IN_E_ANGSTROM
    if "quadrupole" in molecules and "quadrupole_predicted" in results:
        error = _column(results, "quadrupole_predicted", rows) - molecules["quadrupole"].values
        error = traceless(error)
        table["quadrupole_error"] = np.linalg.norm(error, axis=(1, 2)) / DEBYE_IN_E_ANGSTROM
    return table


def distributions(
    table: pd.DataFrame,
) -> dict[MoleculeGrouping, dict[str, dict[str, Distribution]]]:
    """Returns the distribution over molecules of each error, by grouping and label."""
    columns = [name for name in ERROR_COLUMNS if name in table]
    values = table[columns].to_numpy(np.float64)
    formula, formulas_met = pd.factorize(table["formula"])
    contained = [set(elements_of(one)) for one in formulas_met]
    elements = sorted(set[str]().union(*contained))

    def of(rows: Bool[np.ndarray, " row"]) -> dict[str, Distribution]:
        return dict(zip(columns, column_distributions(values[rows]), strict=True))

    def by(groups: pd.Categorical) -> dict[str, dict[str, Distribution]]:
        met = np.unique(groups.codes)
        return {str(groups.categories[code]): of(groups.codes == code) for code in met}

    return {
        "all": {"all": of(np.ones(len(table), bool))},
        "total_charge": by(by_charge(table["total_charge"].to_numpy())),
        "n_atoms": by(by_size(table["n_atoms"].to_numpy())),
        "element": {e: of(np.array([e in some for some in contained])[formula]) for e in elements},
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
    return column_distributions(np.asarray(values, np.float64).reshape(-1, 1))[0]


def column_distributions(values: Float[np.ndarray, "row column"]) -> list[Distribution]:
    """Returns how each column is distributed, over the values that are there."""
    known = np.isfinite(values)
    counts = known.sum(axis=0)
    number = np.maximum(counts, 1)
    means = np.where(known, values, 0.0).sum(axis=0) / number
    deviations = np.sqrt((np.where(known, values - means, 0.0) ** 2).sum(axis=0) / number)
    quantiles = row_quantiles(values.T, known.T, tuple(_QUANTILES.values()))
    return [
        Distribution(
            count=count,
            mean=mean,
            std=deviation,
            **dict(zip(_QUANTILES, of_column, strict=True)),
        )
        if count
        else Distribution(count=0)
        for count, mean, deviation, *of_column in np.stack(
            [counts, means, deviations, *quantiles], axis=1
        ).tolist()
    ]


def units(table: pd.DataFrame) -> Mapping[str, str]:
    """Returns the unit of each error column of a table."""
    return {name: unit for name, unit in ERROR_COLUMNS.items() if name in table}


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
