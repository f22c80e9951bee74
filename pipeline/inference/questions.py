"""A reading is taken, or the user is asked: only about what fits, and with what was measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from pipeline.chemistry.centers import ORIGIN, POINTS
from pipeline.inference.declarations import Declarations, Sibling
from pipeline.inference.hypothesis import CONTRADICTED, NO_FIT, Hypothesis
from pipeline.inference.joint import Weighed
from pipeline.inference.quadrupole_forms import COMPONENTS, CONVENTIONS, QUADRUPOLES, name_of
from pipeline.inference.words import Word
from store_schema.problems import AmbiguityError, ConfigError
from store_schema.provenance import Origin
from store_schema.semantics import SEMANTICS

# A reading is taken at this probability; below, it is a question to the user.
CONFIDENT: Final = 0.98
# How much less a reading is believed if the file itself, or another of its folder, contradicts.
_AGAINST_WORD, _AGAINST_SIBLING, _AGAINST_NAME = 7.0, 10.0, 5.0
# What follows from the units of other keys is likely, but settles nothing.
_AGAINST_DERIVED: Final = 1.0
# What a file says of itself is doubted if another reading fits better by this.
_DOUBTED: Final = 2.5
# Readings that are less probable are not mentioned; of so many the evidence is shown.
_MENTIONED: Final = 0.005
_SHOWN: Final = 4
_CHARGES: Final = "atomic_charges"


@dataclass(frozen=True)
class Conclusion:
    """The reading that was taken.

    Attributes:
        hypothesis: The reading.
        confidence: Its probability among all readings.
        semantics_from: How the meaning was settled.
        unit_from: How the unit was settled.
    """

    hypothesis: Hypothesis
    confidence: float
    semantics_from: Origin
    unit_from: Origin


@dataclass(frozen=True)
class Said:
    """What is said of a key, apart from its values.

    Attributes:
        place: The file and the key, for messages.
        key: The key.
        declarations: What the user declared.
        word: Unit that the file names.
        sibling: What the key means in another file of the folder.
    """

    place: str
    key: str
    declarations: Declarations
    word: dict[str, Word]
    sibling: Sibling | None

    def unit(self, semantics: str) -> str | None:
        """Returns the declared unit, None if there is none."""
        return self.declarations.unit(self.key, semantics)

    def point(self, semantics: str) -> str | None:
        """Returns the declared point of a dipole, None if there is none."""
        return self.declarations.point(self.key, semantics)

    def literal(self, semantics: str) -> Word | None:
        """Returns the unit that the file names for this very key, None if it names none."""
        word = self.word.get(semantics)
        return None if word is None or word.is_derived else word

    @property
    def meaning(self) -> str | None:
        """The declared meaning, None if there is none."""
        return self.declarations.semantics.get(self.key)

    def restricted(self, hypotheses: Sequence[Hypothesis]) -> list[Hypothesis]:
        """Leaves the readings that a declaration allows; others lose what is said against them.

        Raises:
            ConfigError: A declaration allows none.
        """
        left = [
            h
            for h in hypotheses
            if self.meaning in (None, h.semantics) and self.unit(h.semantics) in (None, h.unit)
        ]
        if hypotheses and not left:
            raise _impossible(self, hypotheses)
        left = self._about(left)
        usual = min((h.prior for h in left), default=0.0)
        return [replace(h, prior=self._prior(h, usual) + self._against(h)) for h in left]

    def _about(self, hypotheses: Sequence[Hypothesis]) -> list[Hypothesis]:
        """Readings about the point that is declared, or that another file shows.

        Where it makes no difference, as around neutral molecules, it is not weighed.
        """
        weighed = any(h.about != ORIGIN for h in hypotheses)
        about = next((p for h in hypotheses if (p := self.point(h.semantics))), None)
        if about is None and not weighed and self.sibling is not None:
            about = self.sibling.about
        if about is None:
            return list(hypotheses)
        if not weighed:
            movable = "molecular_dipole_vector"
            return [replace(h, about=about) if h.semantics == movable else h for h in hypotheses]
        return [h for h in hypotheses if h.about == about]

    def _prior(self, h: Hypothesis, usual: float) -> float:
        """How unusual a reading is; a unit that the file names is as usual as any."""
        word = self.word.get(h.semantics)
        return usual if word is not None and h.unit == word.unit else h.prior

    def _against(self, h: Hypothesis) -> float:
        """What speaks against a reading apart from its values, as a negative logarithm."""
        word = self.word.get(h.semantics)
        # A file that says its units calls what is negative by its name.
        said = word is not None and not word.is_derived
        cost = _AGAINST_NAME if said and self._is_misnamed(h) else 0.0
        if self.unit(h.semantics) is not None:
            return cost
        if self.sibling is not None:
            return 0.0 if self.sibling.reads_as(h) else _AGAINST_SIBLING
        if word is None or h.unit == word.unit:
            return cost
        return cost + (_AGAINST_DERIVED if word.is_derived else _AGAINST_WORD)

    def _is_misnamed(self, h: Hypothesis) -> bool:
        return SEMANTICS[h.semantics].sign < 0 and "grad" not in self.key.lower()


def _is_negative(hypothesis: Hypothesis) -> bool:
    return hypothesis.unit is not None and hypothesis.unit.startswith("-")


def conclude(said: Said, weighed: Sequence[Weighed]) -> Conclusion:
    """Takes the reading that evidence, or the user, decides for.

    Args:
        said: What is said of the key.
        weighed: Its readings, the most probable first.

    Raises:
        AmbiguityError: Several readings are left, or none fits.
        ConfigError: Evidence contradicts a declaration.
    """
    best, probability = weighed[0]
    declared = said.unit(best.semantics) is not None or said.meaning is not None
    contradicted = best.misfit > CONTRADICTED
    if declared and contradicted and not said.declarations.force:
        raise _contradicted(said, best)
    unit_declared = said.unit(best.semantics) is not None
    word = None if unit_declared else said.literal(best.semantics)
    if probability < CONFIDENT or best.unit is None:
        raise _ambiguous(said, weighed)
    if not unit_declared and (best.misfit > NO_FIT or _is_negative(best)):
        raise _ambiguous(said, weighed)
    if word is not None and _is_contradicted(word, weighed):
        raise _ambiguous(said, weighed)
    carried = said.sibling is not None and said.sibling.reads_as(best) and not unit_declared
    if carried and _is_doubted(weighed):
        raise _ambiguous(said, weighed)
    if best.about != ORIGIN and best.semantics == "dipole_magnitude":
        raise _not_about_the_origin(said, best)
    several_meanings = len({each.hypothesis.semantics for each in weighed}) > 1
    several_units = len({each.hypothesis.unit for each in weighed}) > 1
    by_user: Origin = "forced" if contradicted else "declared"
    by_physics: Origin = "physics" if best.misfit or word is None else "derived"
    if said.sibling is not None and carried:
        best = replace(best, evidence=f"as in {said.sibling.place}; here {best.evidence}")
    if word is not None:
        best = replace(best, evidence=f"{word.said}; {best.evidence}")
    return Conclusion(
        best,
        probability,
        by_user if said.meaning else by_physics if several_meanings else "alias",
        by_user if unit_declared else by_physics if several_units else "default",
    )


def _is_contradicted(word: Word, weighed: Sequence[Weighed]) -> bool:
    """Whether what was measured speaks for another unit than the file names."""
    return weighed[0].hypothesis.unit != word.unit or _is_doubted(weighed)


def _is_doubted(weighed: Sequence[Weighed]) -> bool:
    """Whether what was measured speaks for another reading than what is said of it.

    Charges of the atoms differ between partitions as much as a factor of no unit would make them.
    """
    others = [each.hypothesis for each in weighed]
    least = min(h.misfit for h in others if h.unit is not None or h.semantics != _CHARGES)
    return weighed[0].hypothesis.misfit - least > _DOUBTED


def _fitting(said: Said, weighed: Sequence[Weighed]) -> list[Hypothesis]:
    """Readings that could be true; what is declared could be."""
    return [
        each.hypothesis
        for each in weighed
        if (each.hypothesis.misfit <= NO_FIT or said.unit(each.hypothesis.semantics) is not None)
        and each.hypothesis.unit is not None
        and not _is_negative(each.hypothesis)
        and each.probability > _MENTIONED
    ]


def _remedy(key: str, readings: Sequence[Hypothesis]) -> str:
    """How to answer; what fits is named, and none of it proposed before the others."""
    meanings = sorted({h.semantics for h in readings})
    units = sorted({str(h.unit) for h in readings if h.unit})
    points = sorted({h.about for h in readings}, key=POINTS.index)
    parts = []
    if len(meanings) > 1:
        parts.append(f"what it is with --declare {key}=MEANING ({' or '.join(meanings)})")
    if len(units) > 1:
        parts.append(f"its unit with --declare unit.{key}=UNIT ({' or '.join(units)})")
    if len(points) > 1:
        parts.append(
            f"the point it is about with --declare point.{key}=POINT ({' or '.join(points)})"
        )
    orders = sorted({name_of(h.order) for h in readings if h.semantics == COMPONENTS})
    if len(orders) > 1:
        parts.append(
            f"the order of its components with --declare order.{key}=ORDER ({' or '.join(orders)})"
        )
    if len({h.scale for h in readings if h.semantics in QUADRUPOLES}) > 1:
        parts.append(
            f"its convention with --declare convention.{key}=CONVENTION "
            f"({' or '.join(CONVENTIONS)})"
        )
    if not parts:
        parts.append(f"its unit with --declare unit.{key}=UNIT, if you know it")
    return "Say " + " and ".join(parts)


def _ambiguous(said: Said, weighed: Sequence[Weighed]) -> AmbiguityError:
    best = weighed[0].hypothesis
    fitting = _fitting(said, weighed)
    word = said.literal(best.semantics)
    if _is_negative(best):
        wrong = f"its sign is opposite: read as {best.name.replace('-', '')}, {_plain(weighed)}"
        remedy = (
            f"Correct the sign in the file; if it is {said.key} whose sign is opposite, and not "
            f"what it is held against, say so with a minus: --declare unit.{said.key}=-UNIT"
        )
    elif word is not None and _is_contradicted(word, weighed):
        named = [each.hypothesis for each in weighed if each.hypothesis.unit is not None]
        other = next(iter(named), best)  # the most probable
        measured = f"read as {other.name}, {other.evidence}"
        wrong = f"the file contradicts itself: {word.said}, but {measured}"
        remedy = f"Look at how the file was made, then --declare unit.{said.key}=UNIT"
    elif (best.unit is None and best.misfit <= NO_FIT) or not fitting:
        named = [each.hypothesis for each in weighed if each.hypothesis.unit is not None]
        close = min(named, key=lambda h: h.misfit, default=best)
        wrong = f"no reading fits its values: {close.evidence}"
        if best.unit is None and best.misfit <= NO_FIT:
            wrong = f"no reading fits its values: {best.evidence} ({close.name}: {close.evidence})"
        remedy = (
            f"Look at how it was written; if you know its unit, --declare unit.{said.key}=UNIT, "
            f"or --declare {said.key}=unknown if it is something else"
        )
    else:
        several = "several readings fit its values"
        some = several if len(fitting) > 1 else "one reading fits its values, but not for sure"
        wrong = f"{some} ({_listed(fitting)})"
        remedy = _remedy(said.key, fitting)
    return AmbiguityError.of(
        said.place,
        wrong=wrong,
        consequence="a guess could be silently wrong, so nothing was stored",
        remedy=remedy,
    )


def _listed(fitting: Sequence[Hypothesis]) -> str:
    """Readings that fit and what was measured of each; once, where it is the same of all."""
    if len(fitting) > 1 and len({h.evidence for h in fitting}) == 1:
        return fitting[0].evidence  # the remedy names the readings
    more = f"; and {len(fitting) - _SHOWN} more" if len(fitting) > _SHOWN else ""
    return "; ".join(f"{h.name}: {h.evidence}" for h in fitting[:_SHOWN]) + more


def _plain(weighed: Sequence[Weighed]) -> str:
    """Evidence of the most probable reading whose sign is the usual one, of the same unit."""
    unit = str(weighed[0].hypothesis.unit).removeprefix("-")
    for each in weighed:
        if each.hypothesis.unit == unit:
            return each.hypothesis.evidence
    return weighed[0].hypothesis.evidence


def _not_about_the_origin(said: Said, best: Hypothesis) -> AmbiguityError:
    return AmbiguityError.of(
        said.place,
        wrong="these are magnitudes of dipoles, those of ions about another point than the "
        f"origin: {best.evidence}",
        consequence="without their direction they cannot be moved there, so nothing was stored",
        remedy=f"Leave it out with --declare {said.key}=unknown; if it is about the origin all the "
        f"same, say --declare point.{said.key}=origin",
    )


def _contradicted(said: Said, declared: Hypothesis) -> ConfigError:
    return ConfigError.of(
        said.place,
        wrong=f"its values do not fit the declaration: read as {declared.name}, "
        f"{declared.evidence}",
        consequence="nothing was stored",
        remedy="Correct the declaration, or force it if you know better",
    )


def _impossible(said: Said, hypotheses: Sequence[Hypothesis]) -> ConfigError:
    return ConfigError.of(
        said.place,
        wrong=(
            f"it was declared {said.meaning!r}, but its shape is that of "
            + " or ".join(sorted({h.semantics for h in hypotheses}))
        ),
        consequence="its shape does not allow it, so nothing was stored",
        remedy="Correct the declaration",
    )
