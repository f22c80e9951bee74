"""What a file says of its own units: ``e_unit``, ``units``, ``E_kcal``, ``R [bohr]``."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Mapping
from typing import Final, NamedTuple

from store_schema.semantics import SEMANTICS, meanings, unit_in
from store_schema.units import Quantity, parse_unit

# Names of entries about units: e_unit, r_units, unit_energy, units.R.
_OF_ONE: Final = re.compile(
    r"^(?:(?P<before>.+?)[_.\s-]*units?|units?[_.\s-]+(?P<behind>.+))$", re.IGNORECASE
)
_OF_ALL: Final = ("unit", "units")
# The sGDML format defines forces to be in the first by the second.
_SGDML: Final = ("e_unit", "r_unit")
# Quantities whose units no other has, so that a list of units says which is which.
_LISTED: Final[tuple[Quantity, ...]] = ("energy", "length", "force", "dipole")
_ATOMIC: Final = {
    "energy": "hartree",
    "length": "bohr",
    "force": "hartree/bohr",
    "charge": "e",
    "potential": "hartree/e",
    "field": "hartree/e/bohr",
    "dipole": "e*bohr",
    "quadrupole": "e*bohr^2",
    "octupole": "e*bohr^3",
}
# Systems of units by name; "metal" and "real" are those of LAMMPS.
_SYSTEMS: Final[dict[str, dict[str, str]]] = {
    **dict.fromkeys(("au", "a.u.", "atomic", "atomic units", "atomic_units"), _ATOMIC),
    "metal": {"energy": "eV", "length": "angstrom", "force": "eV/angstrom", "charge": "e"},
    "real": {"energy": "kcal/mol", "length": "angstrom", "force": "kcal/mol/angstrom"},
}


class Word(NamedTuple):
    """A unit that a file names for a key.

    Attributes:
        unit: Its name in this package.
        said: Where and how the file says it.
        is_derived: It follows from the units of other keys, which is likely, but not said.
    """

    unit: str
    said: str
    is_derived: bool = False


class Words:
    """Units that a file names, by key."""

    def __init__(self, metadata: Mapping[str, str]) -> None:
        """Reads what the entries that are not per molecule say.

        Args:
            metadata: Text of the entries without a molecule axis.
        """
        self._said: dict[str, tuple[str, str]] = {}
        self._is_sgdml = {*_SGDML} <= metadata.keys()
        for entry, text in metadata.items():
            if entry.lower() in _OF_ALL:
                for name, unit in _of_all(text).items():
                    self._said[name.lower()] = unit, f"its {entry} says {unit!r} of {name}"
            elif match := _OF_ONE.match(entry):
                name = match["before"] or match["behind"]
                self._said.setdefault(name.lower(), (text, f"its {entry} says {text!r}"))

    def of(self, key: str, semantics: str) -> Word | None:
        """Returns the unit that the file names for a key of some meaning; None if it names none."""
        quantity = SEMANTICS[semantics].quantity
        if quantity == "none":
            return None
        found = [(unit_in(key), f"its name ends in {unit_in(key)!r}")] if unit_in(key) else []
        found += self._named(key, semantics)
        derived = quantity == "force" and not found
        for text, said in self._force() if derived else found:
            unit = _parsed(text, quantity)
            if unit:
                return Word(unit, said, derived and not self._is_sgdml)
        return None

    def unread(self, key: str, semantics: str) -> str:
        """Returns what the file says of the unit of a key that is none known; empty if nothing."""
        if SEMANTICS[semantics].quantity == "none" or self.of(key, semantics) is not None:
            return ""
        return next((said for text, said in self._named(key, semantics) if text.strip()), "")

    def _named(self, key: str, semantics: str) -> list[tuple[str, str]]:
        """What entries say that name a key, or its meaning where no other key has it."""
        if key.lower() in self._said:
            return [self._said[key.lower()]]
        return [
            said
            for name, said in self._said.items()
            if {meaning.name for meaning in meanings(name)} == {semantics}
            or name in (semantics, SEMANTICS[semantics].stored_as, SEMANTICS[semantics].quantity)
        ]

    def _force(self) -> list[tuple[str, str]]:
        """Forces are in the file's energy by its length, where it names those alone."""
        energy, length = (
            next(iter(self._named(name, semantics)), None)
            for name, semantics in (("e", "energy"), ("r", "positions"))
        )
        if energy is None or length is None:
            return []
        return [(f"{energy[0]}/{length[0]}", f"{energy[1]}, {length[1]}")]


def _of_all(text: str) -> dict[str, str]:
    """Units by key or quantity: a dictionary, a list such as ``eV, Angstrom``, or a system."""
    system = _SYSTEMS.get(text.strip().lower())
    if system is not None:
        return system
    parts = [part.strip() for part in re.split(r"[,;]", text) if part.strip()]
    named: dict[str, str] = {
        quantity: part for part in parts for quantity in _LISTED if _parsed(part, quantity)
    }
    return _dictionary(text) or (named if len(named) == len(parts) else {})


def _parsed(text: str, quantity: Quantity) -> str:
    """A unit by this package's name; empty if it is none of this quantity."""
    try:
        return parse_unit(text, quantity)
    except ValueError:
        return ""


def _dictionary(text: str) -> dict[str, str]:
    """Units by key, written as JSON or as Python writes a dictionary."""
    for read in (json.loads, ast.literal_eval):
        try:
            found = read(text)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
        if isinstance(found, dict):
            return {str(name): str(unit) for name, unit in found.items()}
    return {}
