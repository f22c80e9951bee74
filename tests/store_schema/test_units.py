"""Unit factors against independent tables: ASE's and SciPy's constants."""

import ase.units
import pytest
import scipy.constants
from hypothesis import given
from hypothesis import strategies as st

from store_schema.units import CANONICAL_UNIT, FACTORS, parse_unit, to_canonical, weight_of

# Values of each unit in SI, from SciPy; e is one elementary charge.
E = scipy.constants.e
ANGSTROM = scipy.constants.angstrom
BOHR = scipy.constants.value("Bohr radius")
HARTREE = scipy.constants.value("Hartree energy")
DEBYE = 1e-21 / scipy.constants.c
ENERGIES = {
    "hartree": HARTREE,
    "eV": E,
    "kcal/mol": 4184 / scipy.constants.N_A,
    "kJ/mol": 1000 / scipy.constants.N_A,
    "meV": E / 1000,
    "rydberg": scipy.constants.value("Rydberg constant times hc in J"),
    "cm^-1": 100 * scipy.constants.h * scipy.constants.c,
    "K": scipy.constants.k,
    "J": 1.0,
    "mHartree": HARTREE / 1000,
    "aJ": 1e-18,
}
LENGTHS = {"angstrom": ANGSTROM, "bohr": BOHR, "nm": 1e-9, "pm": 1e-12, "m": 1.0}
SI = {
    "length": LENGTHS,
    "charge": {"e": E, "C": 1.0},
    "potential": {f"{energy}/e": value / E for energy, value in ENERGIES.items()}
    | {"e/angstrom": E / (4 * scipy.constants.pi * scipy.constants.epsilon_0 * ANGSTROM)}
    | {"kT/e": 298.15 * scipy.constants.k / E},
    "dipole": {
        "e*angstrom": E * ANGSTROM,
        "e*bohr": E * BOHR,
        "debye": DEBYE,
        "e*nm": E * 1e-9,
        "C*m": 1.0,
        "1e-30*C*m": 1e-30,
    },
    "quadrupole": {
        "e*angstrom^2": E * ANGSTROM**2,
        "e*bohr^2": E * BOHR**2,
        "debye*angstrom": DEBYE * ANGSTROM,
        "e*nm^2": E * 1e-18,
        "debye*nm": DEBYE * 1e-9,
        "C*m^2": 1.0,
    },
    "octupole": {
        "e*angstrom^3": E * ANGSTROM**3,
        "e*bohr^3": E * BOHR**3,
        "debye*angstrom^2": DEBYE * ANGSTROM**2,
        "e*nm^3": E * 1e-27,
        "C*m^3": 1.0,
    },
    "energy": ENERGIES,
    "force": {
        f"{energy}/{length}": value / width
        for energy, value in ENERGIES.items()
        for length, width in LENGTHS.items()
    },
    # As a volume, but for the last.
    "polarizability": {"bohr^3": BOHR**3, "angstrom^3": ANGSTROM**3, "nm^3": 1e-27}
    | {"C^2*m^2/J": 1 / (4 * scipy.constants.pi * scipy.constants.epsilon_0)},
    "field": {
        f"{energy}/e/{length}": joule / E / metre
        for energy, joule in ENERGIES.items()
        for length, metre in LENGTHS.items()
    },
    "field_error": {
        "kcal/mol/e/angstrom": ENERGIES["kcal/mol"] / E / ANGSTROM,
        "hartree/e/bohr": HARTREE / E / BOHR,
    },
    "potential_error": {
        "kcal/mol/e": ENERGIES["kcal/mol"] / E,
        "hartree/e": HARTREE / E,
    },
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
        ("V", "potential", "eV/e"),
        ("mV", "potential", "meV/e"),
        ("Ry/bohr", "force", "rydberg/bohr"),
        ("kJ mol^-1", "energy", "kJ/mol"),
        ("kcal/(mol*Angstrom)", "force", "kcal/mol/angstrom"),
        ("eV/Ang", "force", "eV/angstrom"),
        ("a.u.", "dipole", "e*bohr"),
        ("cm-1", "energy", "cm^-1"),
        ("-hartree/e", "potential", "-hartree/e"),
        ("kJ mol^-1 nm^-1", "force", "kJ/mol/nm"),
        ("kJ/(mol nm)", "force", "kJ/mol/nm"),
        ("kcal mol⁻¹ Å⁻¹", "force", "kcal/mol/angstrom"),
        ("hartree bohr^-1", "force", "hartree/bohr"),
        ("kcal_per_mol", "energy", "kcal/mol"),
        ("atomic units", "energy", "hartree"),
        ("Angström", "length", "angstrom"),
        ("e bohr", "dipole", "e*bohr"),
        ("C.m", "dipole", "C*m"),
        ("e/Å", "potential", "e/angstrom"),
        ("AA", "length", "angstrom"),
        ("hartree/molecule", "energy", "hartree"),
        ("kcal/mol per molecule", "energy", "kcal/mol"),
        ("|e|", "charge", "e"),
        ("eÅ²", "quadrupole", "e*angstrom^2"),
        ("10⁻³⁰ C m", "dipole", "1e-30*C*m"),
        ("10^-30 C·m", "dipole", "1e-30*C*m"),
        ("mHa", "energy", "mHartree"),
        ("kBT/e", "potential", "kT/e"),
        ("mdyn", "force", "aJ/angstrom"),
        ("nN", "force", "aJ/nm"),
    ],
)
def test_what_people_write(written, quantity, unit):
    assert parse_unit(written, quantity) == unit


def test_a_minus_turns_the_sign():
    assert to_canonical("-hartree/e", "potential") == -1.0


def test_seldom_units_weigh_less():
    assert weight_of("hartree/bohr") == weight_of("kcal/mol/angstrom") == 1
    assert weight_of("rydberg/nm") < weight_of("eV/nm") < weight_of("eV/angstrom")


@pytest.mark.parametrize(
    ("written", "quantity"),
    [
        ("debye", "length"),
        ("bohr", "dipole"),
        ("hartree", "force"),
        ("", "length"),
        ("s", "length"),
    ],
)
def test_a_unit_of_something_else_is_refused_with_those_that_fit(written, quantity):
    with pytest.raises(ValueError, match="expected one of") as caught:
        parse_unit(written, quantity)
    assert all(part in str(caught.value) for unit in FACTORS[quantity] for part in unit.split("/"))
