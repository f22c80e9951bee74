"""Charges of several models in one molecule, and charges refined against an ESP."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dcmnet.prediction import Mixture, Predictor, refine_charges
from dcmnet.prediction.mixture import parse_mixture
from store_schema.problems import ConfigError, SourceError
from store_schema.units import HARTREE_IN_KCAL_PER_MOL
from tests.dcmnet.prediction.prediction_case import (
    esp_of,
    model,
    points_around,
    structure,
    structures,
)
from tests.molecules import seeds

MODELS = (model(2), model(1), model(4))


def shifted_equally(mixed, part):
    """Whether charges are those of a part but for a shift that all of them share."""
    return np.ptp(mixed - part) < 1e-12


def test_each_atom_has_the_charges_of_its_own_model():
    """Hydrogens from one charge per atom, oxygens from four, carbons from two."""
    methanol = structure(total_charge=1.0)
    mixture = Mixture(MODELS, by_element={1: 1, 8: 2})
    (mixed,) = Predictor(mixture).predict([methanol])
    alone = {z: Predictor(m).predict([methanol])[0] for z, m in zip((6, 1, 8), MODELS, strict=True)}
    expected, places = [], []
    for atom, number in enumerate(methanol.atomic_numbers):
        mine = alone[int(number)].atom == atom
        expected.append(alone[int(number)].charges[mine])
        places.append(alone[int(number)].charge_positions[mine])
    assert [len(part) for part in expected] == [2, 4, 1, 1, 1, 1]
    assert shifted_equally(mixed.charges, np.concatenate(expected))
    np.testing.assert_array_equal(mixed.charge_positions, np.concatenate(places))
    assert mixed.charges.sum() == pytest.approx(1.0, abs=1e-12)
    charges, positions = mixed.padded(mixed.n_dcm)
    assert np.isnan(charges[2:, 1:]).all()
    assert np.isfinite(positions[1]).all()


def test_an_atom_named_by_its_place_is_stronger_than_its_element():
    mixture = Mixture(MODELS, by_element={1: 1}, by_atom={0: 2, 2: 2})
    (mixed,) = Predictor(mixture).predict([structure()])
    assert np.bincount(mixed.atom).tolist() == [4, 2, 4, 1, 1, 1]


def test_molecules_without_the_element_are_those_of_the_first_model():
    ozone, water = structure("O3"), structure("H2O")
    mixture = Mixture(MODELS[:2], by_element={1: 1})
    mixed = Predictor(mixture).predict([ozone, water])
    (plain,) = Predictor(MODELS[0]).predict([ozone])
    np.testing.assert_allclose(mixed[0].charges, plain.charges, atol=2e-6)
    assert len(mixed[1].charges) == 4


def test_an_atom_that_a_molecule_lacks_is_refused():
    with pytest.raises(SourceError, match=r"no atom 3, .* 3 atoms"):
        Predictor(Mixture(MODELS, by_atom={3: 1})).predict([structure("H2O")])


def test_a_mixture_as_text():
    assert parse_mixture(["H=a", "o = b", "0,3=a"]) == (["a", " b"], {1: 1, 8: 2}, {0: 1, 3: 1})
    assert parse_mixture([]) == ([], {}, {})


@pytest.mark.parametrize("text", ["H", "=a", "H=", "Qq=a", "-1=a", "H,=a", "1.5=a"])
def test_a_text_that_is_no_mixture_is_refused(text):
    with pytest.raises(ConfigError, match="ELEMENT=EXPERIMENT"):
        parse_mixture([text])


def test_an_element_has_one_model():
    with pytest.raises(ConfigError, match="a second model"):
        parse_mixture(["H=a", "H=b"])


@pytest.fixture(scope="module")
def predicted():
    return Predictor(model()).predict(structures(12, seed=8))


@settings(max_examples=25)
@given(seed=seeds, place=st.integers(0, 11), restraint=st.sampled_from([0.0, 1e-6, 1e-3, 10.0]))
def test_refining_never_makes_the_esp_worse_and_keeps_the_net_charge(
    predicted, seed, place, restraint
):
    molecule = predicted[place]
    points = points_around(molecule.structure.positions, seed=seed)
    esp = 0.05 * np.random.default_rng(seed).normal(size=len(points))
    refined = refine_charges(molecule, esp, points, restraint)
    assert refined.rmse_after <= refined.rmse_before * (1 + 1e-9)
    error = esp_of(refined.molecule.charges, molecule.charge_positions, points) - esp
    rmse = HARTREE_IN_KCAL_PER_MOL * np.sqrt(np.mean(error**2))
    assert refined.rmse_after == pytest.approx(rmse, rel=1e-5)
    assert refined.molecule.charges.sum() == pytest.approx(
        molecule.structure.total_charge, abs=1e-9
    )
    np.testing.assert_array_equal(refined.molecule.charge_positions, molecule.charge_positions)


def test_refining_finds_charges_that_made_the_esp():
    (molecule,) = Predictor(model(1)).predict([structure("CH3OH")])
    points = points_around(molecule.structure.positions, n=600)
    change = np.random.default_rng(1).normal(scale=0.3, size=len(molecule.charges))
    truth = molecule.with_charges(molecule.charges + change)
    refined = refine_charges(molecule, truth.esp(points), points, restraint=0.0)
    np.testing.assert_allclose(refined.molecule.charges, truth.charges, atol=1e-8)
    held = refine_charges(molecule, truth.esp(points), points, restraint=1e12)
    np.testing.assert_allclose(held.molecule.charges, molecule.charges, atol=1e-8)


def test_refining_reaches_the_constrained_minimum():
    """Any other charges of the same sum cost more."""
    (molecule,) = Predictor(model()).predict([structure("H2O", total_charge=-1.0)])
    points = points_around(molecule.structure.positions)
    rng = np.random.default_rng(2)
    esp = 0.05 * rng.normal(size=len(points))
    restraint = 1e-2

    def cost(charges):
        inverse = 0.529177210903 / np.linalg.norm(
            points[:, None] - molecule.charge_positions, axis=-1
        )
        weight = restraint * np.mean(np.sum(inverse**2, axis=0))
        misfit = np.sum((inverse @ charges - esp) ** 2)
        return misfit + weight * np.sum((charges - molecule.charges) ** 2)

    best = refine_charges(molecule, esp, points, restraint).molecule.charges
    for _ in range(50):
        step = rng.normal(scale=1e-3, size=len(best))
        assert cost(best) < cost(best + step - step.mean())


@pytest.mark.parametrize("esp", [None, np.full(200, np.nan), np.zeros(3)])
def test_refining_against_no_esp_is_refused(predicted, esp):
    points = points_around(predicted[0].structure.positions)
    with pytest.raises(SourceError, match="no reference ESP"):
        refine_charges(predicted[0], esp, points)


@pytest.mark.parametrize("restraint", [-1.0, np.nan, np.inf])
def test_a_restraint_is_a_weight(predicted, restraint):
    points = points_around(predicted[0].structure.positions)
    with pytest.raises(ConfigError, match="0 or more"):
        refine_charges(predicted[0], np.zeros(200), points, restraint)


def test_an_element_that_no_molecule_has_is_warned_of():
    mixture = Mixture(MODELS[:2], by_element={54: 1})
    with pytest.warns(UserWarning, match="no molecule has Xe"):
        Predictor(mixture).predict([structure()])
