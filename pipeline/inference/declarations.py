"""What the user declares with ``--declare KEY=VALUE``: it settles what inference would decide."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final, NamedTuple

from pydantic import TypeAdapter, ValidationError

from pipeline.chemistry.centers import POINTS
from pipeline.inference.quadrupole_forms import COMPONENTS, CONVENTIONS, STORED, is_order
from store_schema.problems import ConfigError, Problem
from store_schema.semantics import SEMANTICS, UNKNOWN
from store_schema.units import SIGNED, parse_unit

if TYPE_CHECKING:
    from pipeline.inference.hypothesis import Hypothesis

# Entry of a file that declares what ``--declare`` does, as a JSON object.
DECLARE: Final = "dcm_store_declare"
_UNIT, _POINT, _ORDER, _CONVENTION = "unit.", "point.", "order.", "convention."


_TEXTS: Final = TypeAdapter(dict[str, str])


class _Detail(NamedTuple):
    """What can be declared of a key besides its meaning and its unit.

    Attributes:
        allows: Whether a value is one.
        expected: What it has to be, for messages.
    """

    allows: Callable[[str], bool]
    expected: str


_DETAILS: Final = {
    _POINT: _Detail(lambda text: text in POINTS, f"one of {', '.join(POINTS)}"),
    _ORDER: _Detail(is_order, f"an order of six components such as {STORED}"),
    _CONVENTION: _Detail(lambda text: text in CONVENTIONS, f"one of {', '.join(CONVENTIONS)}"),
}


class Sibling(NamedTuple):
    """What a key was settled as in another file of the same keys.

    Attributes:
        place: The file.
        semantics: Meaning.
        factor: To the canonical unit.
        order: Of the columns; see ``pipeline.inference.hypothesis.Hypothesis``.
        about: See there.
    """

    place: str
    semantics: str
    factor: float
    order: tuple[int, ...]
    about: str

    def reads_as(self, reading: Hypothesis) -> bool:
        """Says whether a reading of a key is this one."""
        return (
            reading.semantics == self.semantics
            and math.isclose(reading.factor, self.factor)
            and reading.order == self.order
            and reading.about == self.about
        )


@dataclass(frozen=True)
class Declarations:
    """Declared facts.

    Attributes:
        text: As given, for the record.
        semantics: Meaning of keys, by key.
        units: Unit as written, by key or variable.
        points: Point that a dipole is about, by key or variable.
        orders: Order of the six components of a quadrupole, by key or variable.
        conventions: Convention of a quadrupole, by key or variable.
        total_charge: Net charge in e of molecules whose source has none.
        level_of_theory: As declared; empty if not.
        force: Believe a declaration that physics contradicts.
        drop_inside: Leave out grid points that lie inside atoms.
        esp_points: Points of the ESP that is evaluated from multipoles where there is none; 0
            where that is not wanted.
        siblings: What keys mean in another file of the same keys.
    """

    text: Mapping[str, str]
    semantics: Mapping[str, str]
    units: Mapping[str, str]
    points: Mapping[str, str]
    orders: Mapping[str, str]
    conventions: Mapping[str, str]
    total_charge: float | None = None
    level_of_theory: str = ""
    force: bool = False
    drop_inside: bool = False
    esp_points: int = 0
    siblings: Mapping[str, Sibling] = field(default_factory=dict)

    @classmethod
    def parse(
        cls,
        declare: Mapping[str, str] | None,
        *,
        force: bool = False,
        drop_inside: bool = False,
        esp_points: int = 0,
    ) -> Declarations:
        """Reads declarations.

        Raises:
            ConfigError: A declaration means nothing; all of them are listed.
        """
        text = {str(key): str(value) for key, value in (declare or {}).items()}
        semantics: dict[str, str] = {}
        details: dict[str, dict[str, str]] = {prefix: {} for prefix in (_UNIT, *_DETAILS)}
        charge: float | None = None
        problems = []
        for key, value in text.items():
            prefix = next((each for each in details if key.startswith(each)), None)
            if prefix is not None:
                details[prefix][key.removeprefix(prefix)] = value
                if prefix in _DETAILS and not (detail := _DETAILS[prefix]).allows(value):
                    problems.append(_problem(key, value, f"{value!r} is not {detail.expected}"))
            elif key == "total_charge":
                try:
                    charge = float(int(value))
                except ValueError:
                    problems.append(
                        _problem(key, value, f"{value!r} is no whole number of elementary charges")
                    )
            elif key != "level_of_theory":
                semantics[key] = value
                if value not in SEMANTICS and value != UNKNOWN:
                    known = ", ".join((*SEMANTICS, UNKNOWN))
                    problems.append(_problem(key, value, f"{value!r} is not one of {known}"))
        if problems:
            raise ConfigError(problems)
        return cls(
            text,
            semantics,
            units=details[_UNIT],
            points=details[_POINT],
            orders=details[_ORDER],
            conventions=details[_CONVENTION],
            total_charge=charge,
            level_of_theory=text.get("level_of_theory", ""),
            force=force,
            drop_inside=drop_inside,
            esp_points=esp_points,
        )

    def with_those_of(
        self, metadata: Mapping[str, str], place: str, keys: Iterable[str]
    ) -> Declarations:
        """Returns these, and what a file declares of itself; these have the last word.

        Args:
            metadata: Text of the entries of the file that are not per molecule.
            place: How messages name it.
            keys: Its keys.

        Raises:
            ConfigError: What it declares means nothing.
        """
        if DECLARE not in metadata:
            return self
        try:
            own = _TEXTS.validate_json(metadata[DECLARE])
        except ValidationError as error:
            raise ConfigError.of(
                f"{place}, {DECLARE}",
                wrong='this is no JSON object of texts, such as {"unit.esp": "hartree/e"}',
                consequence="nothing was stored",
                remedy="Correct it, or leave it out and use --declare",
            ) from error
        self.parse(own).check_keys(keys)
        both = self.parse(own | dict(self.text))
        return replace(
            both,
            force=self.force,
            drop_inside=self.drop_inside,
            esp_points=self.esp_points,
            siblings=self.siblings,
        )

    def unit(self, key: str, semantics: str) -> str | None:
        """Returns the declared unit of a key, None if there is none.

        Raises:
            ConfigError: It is not a unit of this quantity.
        """
        meaning = SEMANTICS[semantics]
        for name in (key, meaning.stored_as, semantics):
            if name in self.units:
                try:
                    unit = parse_unit(self.units[name], meaning.quantity)
                except ValueError as error:
                    raise ConfigError(
                        [_problem(_UNIT + name, self.units[name], str(error))]
                    ) from error
                if unit.startswith("-") and meaning.quantity not in SIGNED:
                    raise _no_minus(_UNIT + name, self.units[name], meaning.quantity)
                return unit
        return None

    def point(self, key: str, semantics: str) -> str | None:
        """Returns the declared point that a dipole is about, None if there is none."""
        return _said(self.points, key, semantics)

    def quadrupole_form(self, key: str, semantics: str) -> tuple[str | None, str | None]:
        """Returns the declared order of components and convention, None for what is not."""
        has_order = semantics == COMPONENTS
        order = _said(self.orders, key, semantics) if has_order else None
        return order, _said(self.conventions, key, semantics)

    def check_keys(self, keys: Iterable[str]) -> None:
        """Raises a ConfigError for declarations about keys that no source has."""
        known = set(keys) | {meaning.stored_as for meaning in SEMANTICS.values()} | set(SEMANTICS)
        details = (self.semantics, self.units, self.points, self.orders, self.conventions)
        prefixes = ("", _UNIT, *_DETAILS)
        problems = [
            _problem(
                prefix + key,
                self.text[prefix + key],
                f"the sources have no key {key!r}, only {', '.join(sorted(keys))}",
            )
            for prefix, declared in zip(prefixes, details, strict=True)
            for key in declared
            if key not in known
        ]
        if problems:
            raise ConfigError(problems)


def _said(declared: Mapping[str, str], key: str, semantics: str) -> str | None:
    """What is declared of a key, by its name, its variable or its meaning; None if nothing is."""
    names = (key, SEMANTICS[semantics].stored_as, semantics)
    return next((declared[name] for name in names if name in declared), None)


def _no_minus(key: str, value: str, quantity: str) -> ConfigError:
    """The error that a sign cannot be declared of a quantity."""
    forces = quantity == "force"
    return ConfigError.of(
        f"--declare {key}={value}",
        wrong=f"a unit of {quantity} takes no minus; units of an ESP, a field, charges, a dipole "
        "or a quadrupole do",
        consequence="nothing was stored",
        remedy=f"Declare the gradient with --declare {key.removeprefix(_UNIT)}=gradient"
        if forces
        else "Turn the sign in the file",
    )


def _problem(key: str, value: str, wrong: str) -> Problem:
    return Problem(
        place=f"--declare {key}={value}",
        wrong=wrong,
        consequence="nothing was stored",
        remedy="Correct the declaration",
    )
