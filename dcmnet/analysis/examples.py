"""The molecules an analysis is shown by: the best, the median and the worst one."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd
import xarray as xr
from jaxtyping import Float

from store_schema.names import RESULTS_GROUP
from store_schema.units import HARTREE_IN_KCAL_PER_MOL

# Share of the points whose error a scale spans; a few far out would fade all others.
_SPANNED = 0.99


@dataclass(frozen=True)
class Example:
    """A molecule with what was predicted for it.

    Attributes:
        molecule: The molecule of the store.
        charges: e, (atom, dcm).
        charge_positions: angstrom, (atom, dcm, xyz).
        error: Predicted minus reference ESP at its grid points, kcal/mol/e.
        esp_rmse: kcal/mol/e.
    """

    molecule: xr.Dataset
    charges: Float[np.ndarray, "A D"]
    charge_positions: Float[np.ndarray, "A D 3"]
    error: Float[np.ndarray, " G"]
    esp_rmse: float

    @property
    def name(self) -> str:
        """Its name in the store."""
        return str(self.molecule["molecule_id"].item())


def read_examples(tree: xr.DataTree, name: str, table: pd.DataFrame) -> dict[str, Example]:
    """Returns the molecules with the least, the median and the largest ESP RMSE.

    Args:
        tree: The store.
        name: Name of the results group.
        table: Its molecules (``molecule_table``).

    Returns:
        By ``best``, ``median`` and ``worst``, in this order; fewer where fewer molecules
        have an error.
    """
    ordered = table["esp_rmse"].dropna().sort_values(kind="stable").index
    if ordered.empty:
        return {}
    places = {"best": 0, "median": (len(ordered) - 1) // 2, "worst": len(ordered) - 1}
    chosen: dict[int, str] = {}
    for title, place in places.items():
        chosen.setdefault(int(ordered[place]), title)
    return {title: _read(tree, name, row) for row, title in chosen.items()}


def error_range(examples: Iterable[Example]) -> float:
    """Returns half the span of a scale for the errors of all of them, in kcal/mol/e."""
    errors = np.concatenate([np.abs(example.error) for example in examples])
    return float(np.quantile(errors, _SPANNED)) or 1.0


def _read(tree: xr.DataTree, name: str, row: int) -> Example:
    molecule = tree.to_dataset().isel(molecule=row).load()
    results = tree[f"{RESULTS_GROUP}/{name}"].to_dataset().isel(molecule=row).load()
    atoms, points = int(molecule["n_atoms"]), int(molecule["n_grid"])
    difference = (results["esp_predicted"] - molecule["esp"]).values[:points]
    return Example(
        molecule=molecule,
        charges=results["charges"].values[:atoms],
        charge_positions=results["charge_positions"].values[:atoms],
        error=difference.astype(np.float64) * HARTREE_IN_KCAL_PER_MOL,
        esp_rmse=float(results["esp_rmse"]),
    )
