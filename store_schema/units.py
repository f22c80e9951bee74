"""Physical constants and unit conversions: the only ones in the repository.

Every quantity has one canonical unit, in which the store keeps it, and a table of the units
that such data are met in. Constants are CODATA 2018
(https://physics.nist.gov/cuu/Constants/); kcal means the thermochemical calorie of exactly
4.184 J, and energies in J are those of one molecule.
"""

from __future__ import annotations

import math
import re
from typing import Final, Literal

BOHR_IN_ANGSTROM: Final = 0.529177210903
HARTREE_IN_EV: Final = 27.211386245988
HARTREE_IN_KCAL_PER_MOL: Final = 627.509474
HARTREE_IN_J: Final = 4.3597447222071e-18
_KCAL_IN_KJ: Final = 4.184
_HARTREE_IN_WAVENUMBERS: Final = 219474.63136320
_HARTREE_IN_KELVIN: Final = 315775.02480407
_ROOM_TEMPERATURE: Final = 298.15
_ELEMENTARY_CHARGE_IN_C: Final = 1.602176634e-19
# 1 D is 1e-21 C m^2/s divided by the speed of light; e and c are exact in the SI.
DEBYE_IN_E_ANGSTROM: Final = 1e-21 / 299792458.0 / _ELEMENTARY_CHARGE_IN_C / 1e-10
_COULOMB_METRE: Final = 1e10 / _ELEMENTARY_CHARGE_IN_C
# The atomic unit of polarizability, e^2 a0^2 / hartree, in C^2 m^2 / J.
_POLARIZABILITY_IN_SI: Final = 1.64877727436e-41

# Of a field, hartree/e/bohr, in kcal/mol/e/angstrom.
FIELD_IN_KCAL_PER_MOL: Final = HARTREE_IN_KCAL_PER_MOL / BOHR_IN_ANGSTROM

Quantity = Literal[
    "none",
    "length",
    "charge",
    "potential",
    "field",
    "dipole",
    "quadrupole",
    "octupole",
    "energy",
    "force",
    "polarizability",
    "potential_error",
    "field_error",
]

CANONICAL_UNIT: Final[dict[Quantity, str]] = {
    "none": "",
    "length": "angstrom",
    "charge": "e",
    "potential": "hartree/e",
    "field": "hartree/e/bohr",
    "dipole": "e*angstrom",
    "quadrupole": "e*angstrom^2",
    "octupole": "e*angstrom^3",
    "energy": "hartree",
    "force": "hartree/angstrom",
    "polarizability": "bohr^3",
    # Errors of a potential are quoted in chemists' units.
    "potential_error": "kcal/mol/e",
    "field_error": "kcal/mol/e/angstrom",
}

_ENERGIES: Final[dict[str, float]] = {
    "hartree": 1.0,
    "eV": 1.0 / HARTREE_IN_EV,
    "kcal/mol": 1.0 / HARTREE_IN_KCAL_PER_MOL,
    "kJ/mol": 1.0 / (HARTREE_IN_KCAL_PER_MOL * _KCAL_IN_KJ),
    "meV": 1e-3 / HARTREE_IN_EV,
    "rydberg": 0.5,
    "cm^-1": 1.0 / _HARTREE_IN_WAVENUMBERS,
    "K": 1.0 / _HARTREE_IN_KELVIN,
    "J": 1.0 / HARTREE_IN_J,
    "mHartree": 1e-3,
    "aJ": 1e-18 / HARTREE_IN_J,
}
_LENGTHS: Final[dict[str, float]] = {
    "angstrom": 1.0,
    "bohr": BOHR_IN_ANGSTROM,
    "nm": 10.0,
    "pm": 0.01,
    "m": 1e10,
}

# Factor that takes a value in the named unit to the canonical one.
FACTORS: Final[dict[Quantity, dict[str, float]]] = {
    "none": {"": 1.0},
    "length": _LENGTHS,
    "charge": {"e": 1.0, "C": 1.0 / _ELEMENTARY_CHARGE_IN_C},
    "potential": {f"{energy}/e": factor for energy, factor in _ENERGIES.items()}
    | {"e/angstrom": BOHR_IN_ANGSTROM, "kT/e": _ROOM_TEMPERATURE / _HARTREE_IN_KELVIN},
    "field": {
        f"{energy}/e/{length}": factor * BOHR_IN_ANGSTROM / width
        for energy, factor in _ENERGIES.items()
        for length, width in _LENGTHS.items()
    },
    "dipole": {
        "e*angstrom": 1.0,
        "e*bohr": BOHR_IN_ANGSTROM,
        "debye": DEBYE_IN_E_ANGSTROM,
        "e*nm": 10.0,
        "C*m": _COULOMB_METRE,
        "1e-30*C*m": 1e-30 * _COULOMB_METRE,
    },
    "quadrupole": {
        "e*angstrom^2": 1.0,
        "e*bohr^2": BOHR_IN_ANGSTROM**2,
        "debye*angstrom": DEBYE_IN_E_ANGSTROM,
        "e*nm^2": 100.0,
        "debye*nm": 10 * DEBYE_IN_E_ANGSTROM,
        "C*m^2": _COULOMB_METRE * 1e10,
    },
    "octupole": {
        "e*angstrom^3": 1.0,
        "e*bohr^3": BOHR_IN_ANGSTROM**3,
        "debye*angstrom^2": DEBYE_IN_E_ANGSTROM,
        "e*nm^3": 1000.0,
        "C*m^3": _COULOMB_METRE * 1e20,
    },
    "energy": _ENERGIES,
    "force": {
        f"{energy}/{length}": factor / width
        for energy, factor in _ENERGIES.items()
        for length, width in _LENGTHS.items()
    },
    "polarizability": {
        "bohr^3": 1.0,
        "angstrom^3": BOHR_IN_ANGSTROM**-3,
        "nm^3": 1e3 * BOHR_IN_ANGSTROM**-3,
        "C^2*m^2/J": 1.0 / _POLARIZABILITY_IN_SI,
    },
    "potential_error": {"kcal/mol/e": 1.0, "hartree/e": HARTREE_IN_KCAL_PER_MOL},
    "field_error": {
        "kcal/mol/e/angstrom": 1.0,
        "hartree/e/bohr": FIELD_IN_KCAL_PER_MOL,
    },
}

# Quantities that are met with the opposite sign, such as the energy of an electron for an ESP.
SIGNED: Final = ("potential", "field", "charge", "dipole", "quadrupole")
# How often molecular data are met in some units, relative to a usual one: the others are
# believed on stronger evidence.
_SELDOM: Final = ("rydberg", "meV", "cm^-1", "K", "J", "mHartree", "aJ", "kT", "nm", "pm", "m", "C")
_WEIGHTS: Final = {
    **dict.fromkeys((*_SELDOM, "C*m", "1e-30*C*m", "e/angstrom"), 0.1),
    "kJ/mol/nm": 1.0,  # of GROMACS
}

# Other ways of writing the parts of a unit, lower case; "a" and "d" stand for a unit only
# where nothing else does.
_PARTS: Final[dict[str, str]] = {
    **dict.fromkeys(
        ("å", "a", "aa", "ang", "angs", "angstroms", "ångström", "ångstrom"), "angstrom"
    ),
    **dict.fromkeys(("angström", "angstroem"), "angstrom"),
    **dict.fromkeys(("a0", "bohrs", "a_0", "bohrradius"), "bohr"),
    **dict.fromkeys(("nanometer", "nanometre", "nanometers", "nanometres"), "nm"),
    **dict.fromkeys(("picometer", "picometre", "picometers", "picometres"), "pm"),
    **dict.fromkeys(("meter", "metre", "meters", "metres"), "m"),
    **dict.fromkeys(("ha", "eh", "e_h", "hartrees"), "hartree"),
    **dict.fromkeys(("mha", "meh", "millihartree", "millihartrees"), "mhartree"),
    **dict.fromkeys(("k_bt", "kbt"), "kt"),
    **dict.fromkeys(("attojoule", "attojoules"), "aj"),
    **dict.fromkeys(("ry", "rydbergs"), "rydberg"),
    **dict.fromkeys(("kelvin",), "k"),
    **dict.fromkeys(("joule", "joules"), "j"),
    **dict.fromkeys(("electronvolt", "electronvolts"), "ev"),
    **dict.fromkeys(("cm-1", "1/cm", "wavenumber", "wavenumbers"), "cm^-1"),
    **dict.fromkeys(("kcal", "kcalmol", "kcal.mol-1", "kcalmol-1", "kcal*mol^-1"), "kcal/mol"),
    **dict.fromkeys(("kj", "kjmol", "kj.mol-1", "kjmol-1", "kj*mol^-1"), "kj/mol"),
    **dict.fromkeys(("d", "debyes"), "debye"),
    **dict.fromkeys(("coulomb", "coulombs"), "c"),
    "|e|": "e",
}
# Whole units that are not made of those parts.
_WHOLE: Final[dict[Quantity, dict[str, str]]] = {
    "length": {"au": "bohr", "a.u.": "bohr"},
    "charge": {"au": "e", "a.u.": "e", "elementary_charge": "e"},
    "energy": {"au": "hartree", "a.u.": "hartree", "kcal_mol": "kcal/mol", "kj_mol": "kJ/mol"},
    "force": {"au": "hartree/bohr", "a.u.": "hartree/bohr"}
    | {"mdyn": "aJ/angstrom", "millidyne": "aJ/angstrom", "nn": "aJ/nm", "n": "J/m"},
    "potential": {
        **{name.lower(): f"{name}/e" for name in _ENERGIES},
        **{"v": "eV/e", "volt": "eV/e", "volts": "eV/e", "mv": "meV/e", "millivolt": "meV/e"},
        **{"au": "hartree/e", "a.u.": "hartree/e", "e/bohr": "hartree/e", "e/a0": "hartree/e"},
    },
    "field": {
        **{f"v/{name}": f"eV/e/{name}" for name in _LENGTHS},
        **dict.fromkeys(("v/å", "v/a", "v/ang"), "eV/e/angstrom"),
        **dict.fromkeys(("au", "a.u.", "e/bohr^2", "e/a0^2"), "hartree/e/bohr"),
    },
    "dipole": {"ea0": "e*bohr", "eå": "e*angstrom", "ea": "e*angstrom", "cm": "C*m"}
    | {"au": "e*bohr", "a.u.": "e*bohr"},
    "quadrupole": {
        "buckingham": "debye*angstrom",
        "ea0^2": "e*bohr^2",
        "eå^2": "e*angstrom^2",
        "ea^2": "e*angstrom^2",
    }
    | {"au": "e*bohr^2", "a.u.": "e*bohr^2"},
    "octupole": {
        **dict.fromkeys(("au", "a.u.", "ea0^3"), "e*bohr^3"),
        **dict.fromkeys(("eå^3", "ea^3"), "e*angstrom^3"),
    },
    "polarizability": {"au": "bohr^3", "a.u.": "bohr^3", "c*m^2/v": "C^2*m^2/J"},
}
# Signs that stand for others; the first are taken before what they contain.
_WRITTEN: Final = (
    *(("⁻³⁰", "^-30"), ("⁻¹", "^-1"), ("²", "^2"), ("³", "^3"), ("₀", "0")),
    *(("·", "*"), ("**", "^"), ("10^-30", "1e-30")),
    *(("elementary_charge", "e"), ("elementary charge", "e")),
    *(("kilojoule", "kj"), ("kilocalorie", "kcal")),
)
_OF_ONE: Final = re.compile(r"\s*(?:/|_per_|\bper\s)\s*(?:molecule|particle)s?\b")
_MOLE: Final = re.compile(r"(?<![a-z])moles?(?![a-z])")
_LAST: Final = re.compile(r"\^-?\d+$")
_INVERSE: Final = re.compile(r"\^?-1$")
# Only of these is "per mole" part of the name: J/mol is no joule.
_PER_MOLE: Final = re.compile(r"\b(kcal|kj)(?:/mol|[*.]?mol\^?-1)")
_PRODUCT: Final = re.compile(r"/(?!mol)|\*")


def parse_unit(text: str, quantity: Quantity) -> str:
    """Returns this package's name of a unit that a person wrote.

    Args:
        text: The unit as written, such as ``Å``, ``a0`` or ``Debye``; case and
            blanks do not matter, ``·`` and ``**`` are understood. A leading ``-`` says that
            values have the opposite sign, such as ``-hartree/e`` for the energy of an electron.
        quantity: What the unit measures; it decides between readings such as
            ``kcal/mol`` (of an energy) and ``kcal/mol/e`` (of a potential).

    Raises:
        ValueError: The unit is not one of this quantity's; the message lists those.
    """
    known = {name.lower(): name for name in FACTORS[quantity]}
    if "MeV" in text:  # a thousand million times the other
        raise ValueError(f"{text!r} is not a unit of {quantity}; meV is another")
    plain = _plain(text)
    key = "".join(plain.split())
    sign = "-" if key.startswith("-") and quantity != "none" else ""
    key = key.removeprefix(sign)
    fraction = _fraction(plain.strip().removeprefix(sign))
    whole = _WHOLE.get(quantity, {}).get(key.replace("atomicunits", "au"), "").lower()
    for spelled in (key, whole, _spelled_out(key), _spelled_out(fraction)):
        for unit in (spelled, f"{spelled}/e" if quantity == "potential" else spelled):
            if unit in known:
                return sign + known[unit]
    raise ValueError(f"{text!r} is not a unit of {quantity}; expected {_known(quantity)}")


def _known(quantity: Quantity) -> str:
    """Units of a quantity, for messages."""
    if quantity in ("force", "field"):
        by = "by e and" if quantity == "field" else "by"
        return f"one of {', '.join(_ENERGIES)} {by} one of {', '.join(_LENGTHS)}"
    return f"one of {', '.join(FACTORS[quantity])}"


def _plain(text: str) -> str:
    """A unit in lower case and ASCII powers, without the molecule that energies are of."""
    plain = text.lower()
    for written, meant in _WRITTEN:
        plain = plain.replace(written, meant)
    return _MOLE.sub("mol", _OF_ONE.sub("", plain))


def _fraction(text: str) -> str:
    """A unit with its divisors behind slashes: ``kJ mol^-1 nm^-1`` is ``kj/mol/nm``."""
    plain = text.replace("_per_", "/").replace(" per ", "/")
    above: list[str] = []
    below: list[str] = []
    # Within parentheses everything divides: kJ/(mol nm).
    outside, _, inside = plain.partition("(")
    for index, part in enumerate(outside.split("/")):
        for token in re.split(r"[\s*._]+", part.strip()):
            if token:
                power = _INVERSE.search(token)
                named = token.removesuffix(power[0]) if power else token
                (below if index or power else above).append(named)
    below += [token for token in re.split(r"[\s*._/]+", inside.rstrip(") ")) if token]
    return "/".join(["*".join(above), *below])


def _spelled_out(key: str) -> str:
    """A unit with its parts by this package's names: ``Ha/Å`` is ``hartree/angstrom``."""
    if key in _PARTS:
        return _PARTS[key]
    parts = re.split(r"([*/])", _PER_MOLE.sub(r"\1", key))
    names = []
    for part in parts:
        power = match[0] if (match := _LAST.search(part)) and part != "cm^-1" else ""
        names.append(_PARTS.get(part.removesuffix(power), part.removesuffix(power)) + power)
    return "".join(names)


def to_canonical(unit: str, quantity: Quantity) -> float:
    """Returns the factor that takes a value in ``unit`` to the canonical unit.

    Raises:
        ValueError: The unit is not one of this quantity's.
    """
    name = parse_unit(unit, quantity)
    plain = name.removeprefix("-")
    return FACTORS[quantity][plain] * (-1.0 if plain != name else 1.0)


def weight_of(unit: str) -> float:
    """Returns how often a unit is met, relative to a usual one."""
    if unit in _WEIGHTS:
        return _WEIGHTS[unit]
    parts = (_LAST.sub("", part) if part != "cm^-1" else part for part in _PRODUCT.split(unit))
    return math.prod(_WEIGHTS.get(part, 1.0) for part in parts)
