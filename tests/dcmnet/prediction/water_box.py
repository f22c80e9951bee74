"""A box of waters for OpenMM, whose charges are the virtual sites of a prediction."""

import numpy as np
from scipy.spatial.transform import Rotation

from dcmnet.prediction.simulation import add_virtual_sites

# TIP3P's geometry, Å and degrees, and its Lennard-Jones terms, nm and kJ/mol.
_BOND, _ANGLE = 0.9572, 104.52
_OXYGEN, _HYDROGEN = (15.999, 0.31507, 0.636), (1.008, 0.1, 0.0)
# Of liquid water at 300 K, molecules per nm³.
_DENSITY = 33.3


def water_geometry():
    """Returns atomic numbers, and positions in Å."""
    half = np.radians(_ANGLE) / 2
    out, along = _BOND * np.sin(half), _BOND * np.cos(half)
    return np.array([8, 1, 1]), np.array([[0, 0, 0], [out, 0, along], [-out, 0, along]])


def water_system(openmm, molecule, side, seed=0):
    """Returns a system of side³ rigid waters, and where its particles are, nm."""
    edge = (side**3 / _DENSITY) ** (1 / 3)
    system, force = openmm.System(), openmm.NonbondedForce()
    system.setDefaultPeriodicBoxVectors(*(edge * np.eye(3)))
    force.setNonbondedMethod(openmm.NonbondedForce.PME)
    force.setCutoffDistance(0.45 * edge)
    force.setEwaldErrorTolerance(1e-5)
    system.addForce(force)
    places, rng = [], np.random.default_rng(seed)
    xyz = molecule.structure.positions
    for cell in np.ndindex(side, side, side):
        first = system.getNumParticles()
        for mass, sigma, epsilon in (_OXYGEN, _HYDROGEN, _HYDROGEN):
            system.addParticle(mass)
            force.addParticle(0.0, sigma, epsilon)
        for i, j in ((1, 0), (2, 0), (2, 1)):
            force.addException(first + i, first + j, 0.0, 0.1, 0.0)
            distance = np.linalg.norm(xyz[i] - xyz[j]) / 10
            system.addConstraint(first + i, first + j, distance)
        sites = add_virtual_sites(system, molecule, first)
        own = Rotation.random(rng=rng).apply(xyz) / 10 + np.array(cell) * edge / side
        places += [*own, *np.repeat(own[:1], len(sites), axis=0)]
    return system, np.array(places)
