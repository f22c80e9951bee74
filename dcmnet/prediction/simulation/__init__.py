"""Distributed charges for simulations: CHARMM's DCM files and OpenMM's virtual sites."""

from dcmnet.prediction.simulation.charmm import DcmResidue, dcm_residue, read_dcm, write_dcm
from dcmnet.prediction.simulation.openmm import add_virtual_sites, virtual_sites, write_force_field

__all__ = [
    "DcmResidue",
    "add_virtual_sites",
    "dcm_residue",
    "read_dcm",
    "virtual_sites",
    "write_dcm",
    "write_force_field",
]
