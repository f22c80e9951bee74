"""Physical constants and unit conversions: the only ones in the repository.

Every quantity has one canonical unit, in which the store keeps it, and a table
of the units it may arrive in. Constants are CODATA 2018
(https://physics.nist.gov/cuu/Constants/); kcal means the thermochemical
calorie of exactly 4.184 J.
"""

from __future__ import annotations

from typing import Final, Literal

BOHR_IN_ANGSTROM: Final = 0.529177210903
HARTREE_IN_EV: Final = 27.211386245988
HARTREE_IN_KCAL_PER_MOL: Final = 627.509474
# 1 D is 1e-21 C m^2/s divided by the speed of light; e and c are exact in the SI.
DEBYE_IN_E_ANGSTROM: Final = 1e-21 / 299792458.0 / 1.602176634e-19 / 1e-10

Quantity = Literal[
    "none",
    "length",
    "charge",
    "potential",
    "dipole",
    "quadrupole",
    "energy",
    "force",
    "polarizability",
    "potential_error",
]

CANONICAL_UNIT: Final[dict[Quantity, str]] = {
    "none": "",
    "length": "angstrom",
    "charge": "e",
    "potential": "hartree/e",
    "dipole": "e*angstrom",
    "quadrupole": "e*angstrom^2",
    "energy": "hartree",
    "force": "hartree/angstrom",
    "polarizability": "bohr^3",
    # Errors of a potential are quoted in chemists' units.
    "potential_error": "kcal/mol/e",
}

# Factor that takes a value in the named unit to the canonical one.
FACTORS: Final[dict[Quantity, dict[str, float]]] = {
    "none": {"": 1.0},
    "length": {"angstrom": 1.0, "bohr": BOHR_IN_ANGSTROM, "nm": 10.0},
    "charge": {"e": 1.0},
    "potential": {
        "hartree/e": 1.0,
        "kcal/mol/e": 1.0 / HARTREE_IN_KCAL_PER_MOL,
        "eV/e": 1.0 / HARTREE_IN_EV,
    },
    "dipole": {
        "e*angstrom": 1.0,
        "e*bohr": BOHR_IN_ANGSTROM,
        "debye": DEBYE_IN_E_ANGSTROM,
    },
    "quadrupole": {
        "e*angstrom^2": 1.0,
        "e*bohr^2": BOHR_IN_ANGSTROM**2,
        "debye*angstrom": DEBYE_IN_E_ANGSTROM,
    },
    "energy": {
        "hartree": 1.0,
        "eV": 1.0 / HARTREE_IN_EV,
        "kcal/mol": 1.0 / HARTREE_IN_KCAL_PER_MOL,
    },
    "force": {
        "hartree/angstrom": 1.0,
        "hartree/bohr": 1.0 / BOHR_IN_ANGSTROM,
        "eV/angstrom": 1.0 / HARTREE_IN_EV,
        "kcal/mol/angstrom": 1.0 / HARTREE_IN_KCAL_PER_MOL,
    },
    "polarizability": {"bohr^3": 1.0, "angstrom^3": BOHR_IN_ANGSTROM**-3},
    "potential_error": {"kcal/mol/e": 1.0, "hartree/e": HARTREE_IN_KCAL_PER_MOL},
}

_SPELLINGS: Final[dict[str, str]] = {
    "å": "angstrom",
    "a": "angstrom",
    "ang": "angstrom",
    "a0": "bohr",
    "au": "bohr",
    "ha/e": "hartree/e",
    "hartree": "hartree/e",
    "kcal/mol": "kcal/mol/e",
    "ev": "eV/e",
    "v": "eV/e",
    "e*å": "e*angstrom",
    "e*a": "e*angstrom",
    "eå": "e*angstrom",
    "ea": "e*angstrom",
    "e*a0": "e*bohr",
    "ea0": "e*bohr",
    "d": "debye",
    "e*å^2": "e*angstrom^2",
    "e*a^2": "e*angstrom^2",
    "e*a0^2": "e*bohr^2",
    "d*å": "debye*angstrom",
    "d*a": "debye*angstrom",
    "d*angstrom": "debye*angstrom",
    "buckingham": "debye*angstrom",
    "ha": "hartree",
    "ha/bohr": "hartree/bohr",
    "ha/å": "hartree/angstrom",
    "hartree/å": "hartree/angstrom",
    "hartree/a": "hartree/angstrom",
    "hartree/a0": "hartree/bohr",
    "ev/å": "eV/angstrom",
    "ev/a": "eV/angstrom",
    "kcal/mol/å": "kcal/mol/angstrom",
    "kcal/mol/a": "kcal/mol/angstrom",
    "a0^3": "bohr^3",
    "å^3": "angstrom^3",
}


def parse_unit(text: str, quantity: Quantity) -> str:
    """Returns this package's name of a unit that a person wrote.

    Args:
        text: The unit as written, such as ``Å``, ``a0`` or ``Debye``; case and
            blanks do not matter, ``·`` and ``**`` are understood.
        quantity: What the unit measures; it decides between readings such as
            ``kcal/mol`` (of an energy) and ``kcal/mol/e`` (of a potential).

    Raises:
        ValueError: The unit is not one of this quantity's; the message lists those.
    """
    known = {name.lower(): name for name in FACTORS[quantity]}
    key = (
        "".join(text.split())
        .lower()
        .replace("·", "*")
        .replace("**", "^")
        .replace("²", "^2")
        .replace("³", "^3")
    )
    if key in known:
        return known[key]
    spelled = _SPELLINGS.get(key)
    if spelled is not None and spelled in FACTORS[quantity]:
        return spelled
    raise ValueError(
        f"{text!r} is not a unit of {quantity}; expected one of {', '.join(FACTORS[quantity])}"
    )


def to_canonical(unit: str, quantity: Quantity) -> float:
    """Returns the factor that takes a value in ``unit`` to the canonical unit.

    Raises:
        ValueError: The unit is not one of this quantity's.
    """
    return FACTORS[quantity][parse_unit(unit, quantity)]
