"""A real simulation: 216 waters with the charges of a model in the box, in OpenMM."""

import numpy as np
import pytest

from dcmnet import load_model
from dcmnet.prediction import predict_arrays
from dcmnet.prediction.simulation.sites import virtual_sites
from tests.dcmnet.prediction.water_box import water_geometry, water_system

openmm = pytest.importorskip("openmm")

SIDE, STEP = 6, 0.001  # ps
N_WATERS = SIDE**3
# kJ/mol/K
GAS_CONSTANT = 0.0083145


@pytest.fixture(scope="module")
def water():
    return predict_arrays(load_model("dcm2"), *water_geometry())


def context(system, integrator, positions):
    integrator.setConstraintTolerance(1e-7)
    made = openmm.Context(system, integrator, openmm.Platform.getPlatformByName("CPU"))
    made.setPositions(positions)
    made.computeVirtualSites()
    return made


@pytest.mark.slow
def test_energy_is_conserved_and_the_dipole_is_the_predicted_one(water):
    system, places = water_system(openmm, water, SIDE)
    warm = context(system, openmm.LangevinMiddleIntegrator(300, 5, STEP), places)
    openmm.LocalEnergyMinimizer.minimize(warm, 10, 150)
    warm.setVelocitiesToTemperature(300, 1)
    warm.getIntegrator().step(1000)
    state = warm.getState(getPositions=True, getVelocities=True)

    free = context(system, openmm.VerletIntegrator(STEP), state.getPositions())
    free.setVelocities(state.getVelocities())
    times, totals, kinetic = np.arange(40) * 50 * STEP, [], []
    for _ in times:
        free.getIntegrator().step(50)
        energy = free.getState(getEnergy=True)
        kinetic.append(energy.getKineticEnergy()._value)
        totals.append(kinetic[-1] + energy.getPotentialEnergy()._value)
    drift = np.polyfit(times, totals, 1)[0] / N_WATERS  # kJ/mol/ps
    temperature = 2 * np.mean(kinetic) / (6 * N_WATERS * GAS_CONSTANT)
    print(f"drift {drift:+.1e} kJ/mol/ps per molecule at {temperature:.0f} K")
    assert abs(drift) < 5e-3
    assert np.std(totals) < 0.05 * np.std(kinetic)
    assert 240 < temperature < 360

    positions = free.getState(getPositions=True).getPositions(asNumpy=True)._value * 10
    charges = np.array([site.charge for site in virtual_sites(water)])
    molecules = positions.reshape(N_WATERS, -1, 3)
    sites = molecules[:, 3:] - molecules[:, :1]
    dipoles = np.linalg.norm(np.einsum("k,mkx->mx", charges, sites), axis=1)
    np.testing.assert_allclose(dipoles, np.linalg.norm(water.dipole), rtol=1e-4)


def test_sites_follow_the_molecules(water):
    """Where OpenMM puts the sites of turned molecules is where the prediction has them."""
    system, places = water_system(openmm, water, 2)
    made = context(system, openmm.VerletIntegrator(STEP), places)
    found = made.getState(getPositions=True).getPositions(asNumpy=True)._value * 10
    molecules = found.reshape(8, -1, 3)
    own = np.concatenate([water.structure.positions, water.charge_positions])
    expected = np.linalg.norm(own[:, None] - own, axis=-1)
    for molecule in molecules:
        distances = np.linalg.norm(molecule[:, None] - molecule, axis=-1)
        np.testing.assert_allclose(distances, expected, atol=1e-5)
