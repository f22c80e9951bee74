"""Predictions to use: from files, from arrays, in ASE, and as a model that travels alone."""

from dcmnet.model.molecule import Structure
from dcmnet.prediction.calculator import DCMCalculator
from dcmnet.prediction.charges import ChargedMolecule
from dcmnet.prediction.derivatives import ChargeDerivatives, charge_derivatives
from dcmnet.prediction.exported import export_model
from dcmnet.prediction.inputs import InMemory, Structures, open_structures
from dcmnet.prediction.mixture import Mixture
from dcmnet.prediction.outputs import as_atoms, write_predictions
from dcmnet.prediction.predict import Predictor, predict_arrays
from dcmnet.prediction.refine import Refinement, refine_charges
from dcmnet.prediction.run import PredictionReport, load_mixture, predict_file
from dcmnet.prediction.survey import Survey

__all__ = [
    "ChargeDerivatives",
    "ChargedMolecule",
    "DCMCalculator",
    "InMemory",
    "Mixture",
    "PredictionReport",
    "Predictor",
    "Refinement",
    "Structure",
    "Structures",
    "Survey",
    "as_atoms",
    "charge_derivatives",
    "export_model",
    "load_mixture",
    "open_structures",
    "predict_arrays",
    "predict_file",
    "refine_charges",
    "write_predictions",
]
