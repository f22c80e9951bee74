"""Distributed charges for simulations: CHARMM's DCM files, virtual sites of OpenMM and GROMACS."""

from dcmnet.prediction.simulation.charmm import DcmResidue, dcm_residue, read_dcm, write_dcm
from dcmnet.prediction.simulation.gromacs import write_topology
from dcmnet.prediction.simulation.openmm import add_virtual_sites, write_force_field
from dcmnet.prediction.simulation.sites import virtual_sites

__all__ = [
    "DcmResidue",
    "add_virtual_sites",
    "dcm_residue",
    "read_dcm",
    "virtual_sites",
    "write_dcm",
    "write_force_field",
    "write_topology",
]
