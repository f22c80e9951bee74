"""Derivatives of charges, dipole and ESP: finite differences, sum rules, and turning."""

import dataclasses

import numpy as np
import pytest
from ase.build import molecule as g2_molecule
from ase.calculators.calculator import Calculator
from ase.vibrations import Infrared

from dcmnet.prediction import DCMCalculator, Mixture, Predictor, charge_derivatives
from dcmnet.prediction.derivatives import ChargeDerivatives
from store_schema.problems import ConfigError
from tests.dcmnet.prediction.prediction_case import model, points_around, structure
from tests.molecules import random_orthogonal

# Å: truncation and single precision of the network meet here.
STEP = 0.02


@pytest.fixture(scope="module", params=[("CH3OH", 0.0), ("OH", -1.0), ("CH3CONH2", 1.0)])
def found(request):
    return charge_derivatives(model(), structure(*request.param))


def central(found, of):
    """Central differences of a function of the charged molecule, atom by atom."""
    still = found.molecule.structure
    rows = []
    for atom in range(still.n_atoms):
        for axis in range(3):
            ends = []
            for step in (STEP, -STEP):
                positions = still.positions.copy()
                positions[atom, axis] += step
                moved = dataclasses.replace(still, positions=positions)
                ends.append(of(charge_derivatives(model(), moved).molecule))
            rows.append((ends[0] - ends[1]) / (2 * STEP))
    shape = np.shape(rows[0])
    return np.moveaxis(np.reshape(rows, (still.n_atoms, 3, *shape)), (0, 1), (-2, -1))


def test_dipoles_change_as_finite_differences_say(found):
    expected = central(found, lambda molecule: molecule.dipole)
    np.testing.assert_allclose(found.dipole, expected, atol=0.01 * np.abs(expected).max())


def test_monopoles_and_esp_change_as_finite_differences_say(found):
    points = points_around(found.molecule.structure.positions, n=8)
    expected = central(found, lambda molecule: molecule.monopoles)
    np.testing.assert_allclose(found.monopoles, expected, atol=0.01 * np.abs(expected).max())
    expected = central(found, lambda molecule: molecule.esp(points))
    np.testing.assert_allclose(found.esp(points), expected, atol=0.01 * np.abs(expected).max())


def test_charge_is_kept_and_a_shifted_molecule_has_the_same_charges(found):
    """The sums of the charges stay; polar tensors of all atoms add up to the net charge."""
    total = found.molecule.structure.total_charge
    scale = np.abs(found.charges).max()
    np.testing.assert_allclose(found.charges.sum(axis=0), 0, atol=1e-4 * scale)
    np.testing.assert_allclose(found.charges.sum(axis=1), 0, atol=1e-4 * scale)
    np.testing.assert_allclose(found.dipole.sum(axis=1), total * np.eye(3), atol=1e-4)


def test_polar_tensors_turn_with_the_molecule(rng):
    turn = random_orthogonal(rng, reflect=False)
    still = structure("CH3OH")
    turned = dataclasses.replace(still, positions=still.positions @ turn.T)
    before, after = (charge_derivatives(model(), each).dipole for each in (still, turned))
    expected = np.einsum("de,eax,yx->day", turn, before, turn)
    np.testing.assert_allclose(after, expected, atol=1e-4 * np.abs(before).max())


def test_intensities_are_those_of_a_charge_on_a_spring():
    """One charge that moves with one atom: 42.26 km/mol per (D/Å)^2/amu, and nothing else."""
    molecule = charge_derivatives(model(1), structure("OH")).molecule
    k, atoms = len(molecule.charges), 2
    places = np.zeros((k, 3, atoms, 3))
    places[0, :, 0] = np.eye(3)
    alone = dataclasses.replace(molecule, charges=np.array([1.0, 0.0]))
    found = ChargeDerivatives(alone, np.zeros((k, atoms, 3)), places)
    modes = np.zeros((2, atoms, 3))
    modes[0, 0, 2] = 0.25  # an atom of 16 amu
    modes[1, 1, 2] = 1.0
    debye_per_e_angstrom = 4.80320471
    expected = 42.2561 * (debye_per_e_angstrom / 4) ** 2
    np.testing.assert_allclose(found.infrared_intensities(modes), [expected, 0], rtol=1e-5)


def test_the_calculator_has_them_of_one_model():
    atoms = g2_molecule("H2O")
    atoms.info["charge"] = 0
    atoms.calc = DCMCalculator(model())
    tensors = atoms.calc.get_charge_derivatives(atoms).dipole
    assert tensors.shape == (3, 3, 3)
    np.testing.assert_allclose(
        tensors, charge_derivatives(model(), structure("H2O")).dipole, atol=1e-5
    )
    mixed = DCMCalculator(model())
    mixed._predictor = Predictor(Mixture((model(), model(1)), {1: 1}))
    with pytest.raises(ConfigError, match="charges of one can be derived"):
        mixed.get_charge_derivatives(atoms)


class Spring(Calculator):
    """Harmonic bonds between all atoms, for want of better forces."""

    implemented_properties = ["energy", "forces"]  # noqa: RUF012

    def calculate(self, atoms=None, properties=("energy",), system_changes=()):
        super().calculate(atoms, properties, system_changes)
        rest = g2_molecule("H2O").get_all_distances()
        vectors = self.atoms.get_all_distances(vector=True)
        lengths = self.atoms.get_all_distances() + np.eye(3)
        stretch = np.where(np.eye(3), 0.0, lengths - rest)
        pull = 30 * stretch / lengths
        self.results = {
            "energy": 0.5 * 30 * np.sum(stretch**2) / 2,
            "forces": np.einsum("ab,abx->ax", pull, vectors),
        }


def test_ase_finds_the_same_intensities_by_finite_differences(tmp_path, monkeypatch):
    """Modes by the forces of another calculator, dipole derivatives by ours."""
    monkeypatch.chdir(tmp_path)
    atoms = g2_molecule("H2O")
    atoms.info["charge"] = 0
    atoms.calc = DCMCalculator(model(), forces=Spring())
    assert atoms.get_potential_energy() == pytest.approx(0)
    spectrum = Infrared(atoms, delta=0.01)
    spectrum.run()
    modes = np.array([spectrum.get_mode(i).reshape(3, 3) for i in (6, 7, 8)])
    frequencies = spectrum.get_frequencies().real
    spectrum.summary(log=str(tmp_path / "log"))
    ours = atoms.calc.get_charge_derivatives(atoms).infrared_intensities(modes)
    # ASE gives (D/Å)²/amu.
    theirs = 42.2561 * np.asarray(spectrum.intensities)[6:9]
    assert frequencies[6:9].min() > 500
    np.testing.assert_allclose(ours, theirs, rtol=0.02, atol=0.02 * theirs.max())
