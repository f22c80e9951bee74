"""Structures → geometries: XYZ, SDF, MOL2 and SMILES, each with its net charge."""

from pipeline.structures.geometry import Geometry
from pipeline.structures.molecules import is_smiles, smiles_problem
from pipeline.structures.read import STRUCTURE_FILES, read_structures
from pipeline.structures.xyz import net_charge

__all__ = [
    "STRUCTURE_FILES",
    "Geometry",
    "is_smiles",
    "net_charge",
    "read_structures",
    "smiles_problem",
]
