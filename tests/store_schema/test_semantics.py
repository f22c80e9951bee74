"""The alias table: every key of the wild has its meanings, every meaning a place."""

import numpy as np
import pytest

from store_schema.names import REQUIRED, VARIABLES
from store_schema.results import RESULT_VARIABLES
from store_schema.semantics import ALIASES, QUADRUPOLE_COMPONENTS, SEMANTICS, meanings


def names(key):
    return [semantics.name for semantics in meanings(key)]


@pytest.mark.parametrize(
    ("variable", "keys"),
    [
        ("positions", "R positions coordinates coords xyz"),
        ("atomic_numbers", "Z atomic_numbers z numbers"),
        ("n_atoms", "N n_atoms number_of_atoms"),
        ("energy", "E energy energies E_eV"),
        ("forces", "F forces"),
        ("monopoles", "mono"),
        ("esp", "esp ESP"),
        ("vdw_surface", "vdw_surface esp_grid vdw_grid"),
        ("n_grid", "n_grid ngrid"),
        ("center_of_mass", "com"),
        ("molecule_id", "id"),
        ("polarizability", "polar"),
        ("dipole", "Dxyz"),
        ("quadrupole", "quadrupole"),
    ],
)
def test_keys_of_the_wild_are_known(variable, keys):
    for key in keys.split():
        assert meanings(key), key
        assert {semantics.stored_as for semantics in meanings(key)} == {variable}, key


def test_ambiguous_keys_have_all_their_meanings():
    for key in ("D", "dipole", "dipoles"):
        assert names(key) == ["dipole_magnitude", "molecular_dipole_vector", "atomic_dipoles"]
    assert names("Q") == [
        "total_charge",
        "quadrupole_components",
        "quadrupole_tensor",
        "atomic_charges",
    ]


def test_unknown_keys_have_no_meaning():
    assert meanings("smiles") == ()
    assert meanings("") == ()


def test_tables_fit_each_other():
    assert {name for meant in ALIASES.values() for name in meant} == set(SEMANTICS)
    assert all(key == key.lower() for key in ALIASES)
    # A mask is only used to read the others.
    assert {semantics.stored_as for semantics in SEMANTICS.values()} - {""} == set(VARIABLES)
    assert set(REQUIRED) <= set(VARIABLES)
    assert not set(VARIABLES) & set(RESULT_VARIABLES)


def test_padding_can_be_told_from_values():
    for variable in (*VARIABLES.values(), *RESULT_VARIABLES.values()):
        fill = variable.fill_value
        if variable.dtype.startswith("float"):
            assert np.isnan(fill), variable.name
        else:
            assert fill in (0, "")
    padded_with_zero = {v.name for v in VARIABLES.values() if v.fill_value == 0}
    assert padded_with_zero == {"atomic_numbers", "n_atoms", "n_grid"}


def test_six_components_are_the_upper_triangle():
    assert len(set(QUADRUPOLE_COMPONENTS)) == 6
    assert all(row <= column for row, column in QUADRUPOLE_COMPONENTS)
    assert list(QUADRUPOLE_COMPONENTS) == sorted(QUADRUPOLE_COMPONENTS)
