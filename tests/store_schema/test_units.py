"""Unit factors against independent tables: ASE's and SciPy's constants."""

import ase.units
import pytest
import scipy.constants
from hypothesis import given
from hypothesis import strategies as st

from store_schema.units import CANONICAL_UNIT, FACTORS, parse_unit, to_canonical

# Values of each unit in SI, from SciPy; e is one elementary charge.
E = scipy.constants.e
ANGSTROM = scipy.constants.angstrom
BOHR = scipy.constants.value("Bohr radius")
HARTREE = scipy.constants.value("Hartree energy")
KCAL_PER_MOL = 4184 / scipy.constants.N_A
DEBYE = 1e-21 / scipy.constants.c
SI = {
    "length": {"angstrom": ANGSTROM, "bohr": BOHR, "nm": 1e-9},
    "charge": {"e": E},
    "potential": {"hartree/e": HARTREE / E, "kcal/mol/e": KCAL_PER_MOL / E, "eV/e": 1.0},
    "dipole": {"e*angstrom": E * ANGSTROM, "e*bohr": E * BOHR, "debye": DEBYE},
    "quadrupole": {
        "e*angstrom^2": E * ANGSTROM**2,
        "e*bohr^2": E * BOHR**2,
        "debye*angstrom": DEBYE * ANGSTROM,
    },
    "energy": {"hartree": HARTREE, "eV": E, "kcal/mol": KCAL_PER_MOL},
    "force": {
        "hartree/angstrom": HARTREE / ANGSTROM,
        "hartree/bohr": HARTREE / BOHR,
        "eV/angstrom": E / ANGSTROM,
        "kcal/mol/angstrom": KCAL_PER_MOL / ANGSTROM,
    },
    "polarizability": {"bohr^3": BOHR**3, "angstrom^3": ANGSTROM**3},
    "potential_error": {"kcal/mol/e": KCAL_PER_MOL / E, "hartree/e": HARTREE / E},
}
UNITS = [(quantity, unit) for quantity, units in FACTORS.items() for unit in units if unit]


@pytest.mark.parametrize(("quantity", "unit"), UNITS)
def test_factors_equal_those_of_the_si(quantity, unit):
    """The trap of a mistyped bohr factor (1.88873 for 1.88973) is 5e-4 away; this is not."""
    expected = SI[quantity][unit] / SI[quantity][CANONICAL_UNIT[quantity]]
    assert to_canonical(unit, quantity) == pytest.approx(expected, rel=1e-8)


def test_factors_equal_those_of_ase():
    units = ase.units
    assert to_canonical("bohr", "length") == pytest.approx(units.Bohr, rel=1e-8)
    assert to_canonical("debye", "dipole") == pytest.approx(units.Debye, rel=1e-8)
    assert 1 / to_canonical("eV", "energy") == pytest.approx(units.Hartree, rel=1e-8)
    kcal = units.kcal / units.mol / units.Hartree
    assert to_canonical("kcal/mol/e", "potential") == pytest.approx(kcal, rel=1e-8)
    force = units.Bohr / units.Angstrom
    assert 1 / to_canonical("hartree/bohr", "force") == pytest.approx(force, rel=1e-8)


@pytest.mark.parametrize("quantity", CANONICAL_UNIT)
def test_the_canonical_unit_is_one(quantity):
    assert to_canonical(CANONICAL_UNIT[quantity], quantity) == 1.0


@given(choice=st.sampled_from(UNITS), data=st.data())
def test_case_and_blanks_do_not_matter(choice, data):
    quantity, unit = choice
    written = "".join(
        data.draw(st.sampled_from([c.upper(), c.lower(), f" {c}", f"{c} "])) for c in unit
    )
    assert parse_unit(written, quantity) == unit
    assert parse_unit(written.replace("*", "·").replace("^", "**"), quantity) == unit


@pytest.mark.parametrize(
    ("written", "quantity", "unit"),
    [
        ("Å", "length", "angstrom"),
        ("a0", "length", "bohr"),
        ("e·Å", "dipole", "e*angstrom"),
        ("D", "dipole", "debye"),
        ("D·Å", "quadrupole", "debye*angstrom"),
        ("e·a0²", "quadrupole", "e*bohr^2"),
        ("kcal/mol", "potential", "kcal/mol/e"),
        ("kcal/mol", "energy", "kcal/mol"),
        ("Ha/bohr", "force", "hartree/bohr"),
        ("Å³", "polarizability", "angstrom^3"),
    ],
)
def test_what_people_write(written, quantity, unit):
    assert parse_unit(written, quantity) == unit


@pytest.mark.parametrize(
    ("written", "quantity"),
    [
        ("debye", "length"),
        ("bohr", "dipole"),
        ("hartree", "force"),
        ("", "length"),
        ("m", "length"),
    ],
)
def test_a_unit_of_something_else_is_refused_with_those_that_fit(written, quantity):
    with pytest.raises(ValueError, match="expected one of") as caught:
        parse_unit(written, quantity)
    assert all(unit in str(caught.value) for unit in FACTORS[quantity])
