"""A model in ASE: charges, dipole and ESP, asked for as of any calculator."""

import warnings

import numpy as np
import pytest
from ase.build import molecule as g2_molecule
from ase.calculators.calculator import PropertyNotImplementedError

from dcmnet.prediction import DCMCalculator, predict_arrays
from store_schema.problems import SourceError
from tests.dcmnet.prediction.prediction_case import esp_of, model, points_around
from tests.molecules import random_orthogonal


@pytest.fixture
def hydroxide():
    atoms = g2_molecule("OH")
    atoms.info["charge"] = -1
    atoms.calc = DCMCalculator(model())
    return atoms


def test_charges_and_dipole_are_those_of_the_model(hydroxide):
    expected = predict_arrays(model(), hydroxide.numbers, hydroxide.positions, -1.0)
    np.testing.assert_allclose(hydroxide.get_charges(), expected.monopoles, atol=1e-6)
    np.testing.assert_allclose(hydroxide.get_dipole_moment(), expected.dipole, atol=1e-6)
    assert hydroxide.get_charges().sum() == pytest.approx(-1.0, abs=1e-12)


def test_the_esp_at_points_is_a_plain_sum(hydroxide):
    points = points_around(hydroxide.positions)
    found = hydroxide.calc.get_esp(points, hydroxide)
    charged = hydroxide.calc.get_distributed_charges(hydroxide)
    expected = esp_of(charged.charges, charged.charge_positions, points)
    np.testing.assert_allclose(found, expected, rtol=1e-8)
    np.testing.assert_array_equal(hydroxide.calc.get_esp(points.tolist()), found)


def test_a_dipole_turns_with_its_molecule(hydroxide):
    rotation = random_orthogonal(np.random.default_rng(0), reflect=True)
    before = hydroxide.get_dipole_moment()
    hydroxide.positions = hydroxide.positions @ rotation.T
    np.testing.assert_allclose(hydroxide.get_dipole_moment(), before @ rotation.T, atol=1e-5)


def test_another_charge_is_another_molecule(hydroxide):
    """Trap: ASE keeps results while positions and elements are the same."""
    hydroxide.get_charges()
    hydroxide.info["charge"] = 1
    assert hydroxide.get_charges().sum() == pytest.approx(1.0, abs=1e-12)
    hydroxide.calc = DCMCalculator(model(), total_charge=0.0)
    assert hydroxide.get_charges().sum() == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize("ask", ["get_potential_energy", "get_forces", "get_stress"])
def test_there_is_no_energy(hydroxide, ask):
    with pytest.raises(PropertyNotImplementedError):
        getattr(hydroxide, ask)()


def test_what_nobody_said_and_what_is_unknown_is_warned_of():
    atoms = g2_molecule("SiH4")
    atoms.calc = DCMCalculator(model())
    with (
        pytest.warns(UserWarning, match="n2 has not seen Si"),
        pytest.warns(UserWarning, match="0 was assumed"),
    ):
        atoms.get_charges()
    atoms.calc = DCMCalculator(model(), strict=True)
    with pytest.raises(SourceError, match="Si"):
        atoms.get_charges()


def test_a_period_is_not_seen():
    atoms = g2_molecule("H2O", vacuum=5.0)
    atoms.pbc = True
    atoms.calc = DCMCalculator(model(), total_charge=0.0)
    with pytest.warns(UserWarning, match="periodic"):
        atoms.get_charges()


def test_a_plain_molecule_passes_without_a_word(hydroxide):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert hydroxide.get_charges().sum() == pytest.approx(-1.0)


def test_atoms_at_one_place_are_refused(hydroxide):
    hydroxide.positions[:] = 0.0
    with pytest.raises(SourceError, match="apart"):
        hydroxide.get_charges()


def test_initial_charges_are_the_net_charge_or_refused():
    """As codes hand over an ion without a word; never ignored."""
    atoms = g2_molecule("OH")
    atoms.set_initial_charges([-1.3, 0.3])
    atoms.calc = DCMCalculator(model())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert atoms.get_charges().sum() == pytest.approx(-1.0, abs=1e-12)
    atoms.info["charge"] = 0
    with pytest.raises(SourceError, match="charge=0, sum of initial_charges=-1"):
        atoms.get_charges()
    del atoms.info["charge"]
    atoms.calc = DCMCalculator(model(), total_charge=1.0)
    assert atoms.get_charges().sum() == pytest.approx(1.0, abs=1e-12)
