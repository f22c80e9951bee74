"""What an analysis comes to: a table of molecules, and numbers with their distribution."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from store_schema.names import ATOM, RESULTS_GROUP, XYZ
from store_schema.units import DEBYE_IN_E_ANGSTROM


def molecule_table(tree: xr.DataTree, name: str) -> pd.DataFrame:
    """Returns one row for each analysed molecule.

    Args:
        tree: The store.
        name: Name of the results group.

    Returns:
        Columns ``molecule_id``, ``split``, ``total_charge``, ``n_atoms``, ``n_grid``,
        ``esp_rmse``, ``esp_mae`` and ``esp_rmse_monopoles`` (kcal/mol/e),
        ``monopole_mae`` (e) and ``dipole_error`` (D); NaN where the reference is absent.
    """
    molecules, results = tree.to_dataset(), tree[f"{RESULTS_GROUP}/{name}"].to_dataset()
    rows = np.flatnonzero(results["split"].values != "")
    molecules, results = molecules.isel(molecule=rows), results.isel(molecule=rows)
    table = pd.DataFrame(
        {
            "molecule_id": molecules["molecule_id"].values.astype(object),
            "split": results["split"].values.astype(object),
            "total_charge": _or_nan(molecules, "total_charge", rows.size),
            "n_atoms": molecules["n_atoms"].values,
            "n_grid": molecules["n_grid"].values,
            **{
                column: results[column].values.astype(np.float64)
                for column in ("esp_rmse", "esp_mae", "esp_rmse_monopoles")
            },
        },
        index=pd.Index(rows, name="molecule"),
    )
    if "monopoles" in molecules:
        error = abs(results["monopoles_predicted"] - molecules["monopoles"])
        table["monopole_mae"] = error.mean(ATOM).values.astype(np.float64)
    if "dipole" in molecules:
        error = (results["dipole_predicted"] - molecules["dipole"]).astype(np.float64)
        squared = (error**2).sum(XYZ, skipna=False)
        table["dipole_error"] = np.sqrt(squared.values) / DEBYE_IN_E_ANGSTROM
    return table


def summarize(table: pd.DataFrame) -> dict[str, Any]:
    """Returns the numbers of a molecule table, ready for JSON.

    Each error comes as count, mean, median, 95th percentile and maximum over
    molecules, for all of them and for each total charge; the five worst molecules
    are named.
    """
    worst = table.nlargest(5, "esp_rmse")[["molecule_id", "esp_rmse", "total_charge"]]
    return {
        "n_molecules": len(table),
        "units": {
            "esp": "kcal/mol/e",
            "monopole_mae": "e",
            "dipole_error": "debye",
        },
        "all": _distributions(table),
        "by_charge": {
            charge_label(charge): _distributions(group)
            for charge, group in table.groupby("total_charge")
        },
        "worst": worst.to_dict("records"),
    }


def charge_label(charge: float) -> str:
    """Returns a total charge as chemists write it: -1, 0, +1."""
    return f"{charge:+.0f}" if round(charge) else "0"


def distribution(values: pd.Series) -> dict[str, float]:
    """Returns count, mean, median, 95th percentile and maximum of the values that are there."""
    known = values.dropna()
    if known.empty:
        return {"count": 0}
    return {
        "count": int(known.size),
        "mean": float(known.mean()),
        "median": float(known.median()),
        "p95": float(known.quantile(0.95)),
        "max": float(known.max()),
    }


_ERRORS = ("esp_rmse", "esp_mae", "esp_rmse_monopoles", "monopole_mae", "dipole_error")


def _distributions(table: pd.DataFrame) -> dict[str, dict[str, float]]:
    return {name: distribution(table[name]) for name in _ERRORS if name in table}


def _or_nan(dataset: xr.Dataset, name: str, length: int) -> np.ndarray:
    return dataset[name].values if name in dataset else np.full(length, np.nan)
