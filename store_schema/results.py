"""Schema of a results group: what an analysis wrote, and how it was made."""

from __future__ import annotations

from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field

from store_schema.names import ATOM, DCM, GRID_POINT, MOLECULE, XYZ, XYZ2, Variable

_TABLE: Final = (
    Variable("charges", (MOLECULE, ATOM, DCM), "float32", "charge", "distributed charges"),
    Variable(
        "charge_positions",
        (MOLECULE, ATOM, DCM, XYZ),
        "float32",
        "length",
        "positions of the distributed charges",
    ),
    Variable("esp_predicted", (MOLECULE, GRID_POINT), "float32", "potential", "ESP of the charges"),
    Variable("monopoles_predicted", (MOLECULE, ATOM), "float32", "charge", "charge of each atom"),
    Variable("dipole_predicted", (MOLECULE, XYZ), "float32", "dipole", "dipole of the charges"),
    Variable(
        "quadrupole_predicted",
        (MOLECULE, XYZ, XYZ2),
        "float32",
        "quadrupole",
        "quadrupole of the charges, not traceless",
    ),
    Variable("esp_rmse", (MOLECULE,), "float32", "potential_error", "ESP RMSE over valid points"),
    Variable("esp_mae", (MOLECULE,), "float32", "potential_error", "ESP MAE over valid points"),
    Variable("esp_mean", (MOLECULE,), "float32", "potential_error", "mean error of the ESP"),
    Variable("esp_p50", (MOLECULE,), "float32", "potential_error", "median absolute ESP error"),
    Variable("esp_p95", (MOLECULE,), "float32", "potential_error", "its 95th percentile"),
    Variable("esp_max", (MOLECULE,), "float32", "potential_error", "largest absolute ESP error"),
    Variable(
        "esp_correlation", (MOLECULE,), "float32", "none", "of predicted and reference ESP, Pearson"
    ),
    Variable(
        "esp_rmse_monopoles",
        (MOLECULE,),
        "float32",
        "potential_error",
        "ESP RMSE of the reference monopoles",
    ),
    Variable(
        "esp_rmse_fitted",
        (MOLECULE,),
        "float32",
        "potential_error",
        "ESP RMSE of the fitted charges, the least that charges on the atoms can have",
    ),
    Variable(
        "esp_rmse_fitted_dipoles",
        (MOLECULE,),
        "float32",
        "potential_error",
        "ESP RMSE of fitted charges and dipoles on the atoms; of a sample of molecules",
    ),
    Variable(
        "esp_rmse_fitted_quadrupoles",
        (MOLECULE,),
        "float32",
        "potential_error",
        "ESP RMSE of fitted charges, dipoles and quadrupoles on the atoms; of the same sample",
    ),
    Variable(
        "esp_rmse_stored_multipoles",
        (MOLECULE,),
        "float32",
        "potential_error",
        "ESP RMSE of the reference multipoles on the atoms; of the same sample",
    ),
    Variable(
        "monopoles_fitted",
        (MOLECULE, ATOM),
        "float32",
        "charge",
        "charges on the atoms fitted to the molecule's ESP, with its total charge",
    ),
    Variable(
        "esp_uncertainty",
        (MOLECULE,),
        "float32",
        "potential_error",
        "RMS error of the ESP to expect, by the spread of an ensemble",
    ),
    Variable(
        "esp_rmse_averaged",
        (MOLECULE,),
        "float32",
        "potential_error",
        "ESP RMSE of the mean of the ESPs of an ensemble",
    ),
    Variable(
        "field_rmse",
        (MOLECULE,),
        "float32",
        "field_error",
        "RMSE of the components of the electric field at valid points",
    ),
    Variable(
        "monopole_mae", (MOLECULE,), "float32", "charge", "MAE of the atoms' charges, to monopoles"
    ),
    Variable(
        "displacement_mean", (MOLECULE,), "float32", "length", "mean distance of charge and nucleus"
    ),
    Variable("displacement_max", (MOLECULE,), "float32", "length", "largest distance of the kind"),
)
RESULT_VARIABLES: Final[dict[str, Variable]] = {variable.name: variable for variable in _TABLE}


class ResultsSchema(BaseModel):
    """How a results group was made; kept in the group's attributes.

    Attributes:
        experiment: Name of the experiment.
        checkpoint: Checkpoint that predicted, such as ``best``.
        epoch: Epoch of that checkpoint.
        split: Split that was analysed; other molecules are NaN.
        n_molecules: Molecules analysed.
        n_dcm: Charges per atom.
        members: Experiments of an ensemble and their checkpoint, that which predicted first;
            none of a single one.
        config: The experiment's configuration.
        versions: Versions of the packages that computed it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    experiment: str
    checkpoint: str
    epoch: int = Field(ge=0)
    split: str
    n_molecules: int = Field(ge=0)
    n_dcm: int = Field(ge=1)
    members: tuple[str, ...] = ()
    config: dict[str, Any]
    versions: dict[str, str]
