"""What files say of their own units."""

from __future__ import annotations

import pytest

from pipeline.inference.words import Words
from store_schema.semantics import meanings, unit_in


@pytest.mark.parametrize(
    ("metadata", "key", "semantics", "unit"),
    [
        ({"e_unit": "kcal/mol"}, "E", "energy", "kcal/mol"),
        ({"e_unit": "kcal/mol"}, "energies", "energy", "kcal/mol"),
        ({"r_unit": "Angstrom"}, "R", "positions", "angstrom"),
        ({"unit_energy": "Hartree"}, "E", "energy", "hartree"),
        ({"units": '{"R": "bohr", "E": "eV"}'}, "R", "positions", "bohr"),
        ({"units": "{'R': 'bohr'}"}, "R", "positions", "bohr"),
        ({"e_unit": "kcal/mol", "r_unit": "Angstrom"}, "F", "forces", "kcal/mol/angstrom"),
        ({"f_unit": "Ha/bohr", "e_unit": "eV", "r_unit": "A"}, "F", "forces", "hartree/bohr"),
        ({"units": "eV, Angstrom"}, "E", "energy", "eV"),
        ({"units": "eV, Angstrom"}, "R", "positions", "angstrom"),
        ({"units": "metal"}, "F", "forces", "eV/angstrom"),
        ({"units": "a.u."}, "dipole", "molecular_dipole_vector", "e*bohr"),
        ({}, "energy/eV", "energy", "eV"),
        ({}, "R (Å)", "positions", "angstrom"),
        ({}, "E_kJ", "energy", "kJ/mol"),
        ({}, "forces_kcal_mol_ang", "forces", "kcal/mol/angstrom"),
        ({}, "dipole [debye]", "molecular_dipole_vector", "debye"),
    ],
)
def test_a_unit_that_is_named_is_found(metadata, key, semantics, unit):
    word = Words(metadata).of(key, semantics)
    assert word is not None
    assert word.unit == unit


@pytest.mark.parametrize(
    ("metadata", "key", "semantics"),
    [
        ({}, "E", "energy"),
        ({"e_unit": "furlong"}, "E", "energy"),  # means nothing
        ({"r_unit": "bohr"}, "E", "energy"),  # of another key
        ({"e_unit": "kcal/mol"}, "F", "forces"),  # of a length nothing is said
        ({"units": "{" * 2000}, "R", "positions"),
        ({"units": "metric"}, "R", "positions"),
        ({"unit_cell": "10 10 10"}, "R", "positions"),
    ],
)
def test_nothing_is_read_into_what_is_not_said(metadata, key, semantics):
    assert Words(metadata).of(key, semantics) is None


@pytest.mark.parametrize("key", ["E_kcal", "R_bohr", "energy_ev", "F_eV/A", "E (kJ/mol)", "E_eV"])
def test_a_unit_at_the_end_is_not_part_of_the_name(key):
    assert unit_in(key)
    assert {meaning.name for meaning in meanings(key)} == {
        meaning.name for meaning in meanings(key[0] if key[1] in "_ " else "energy")
    }


@pytest.mark.parametrize("key", ["Q_e", "E_a", "esp_grid", "q_total", "vdw_grid", "E_h2o"])
def test_one_letter_and_other_words_are_no_units(key):
    assert not unit_in(key)


@pytest.mark.parametrize(
    ("entries", "derived"), [(("e_unit", "r_unit"), False), (("energy_unit", "length_unit"), True)]
)
def test_only_sgdml_files_say_the_unit_of_forces_by_those_of_others(entries, derived):
    word = Words(dict(zip(entries, ("kcal/mol", "angstrom"), strict=True))).of("F", "forces")
    assert word is not None
    assert (word.unit, word.is_derived) == ("kcal/mol/angstrom", derived)
