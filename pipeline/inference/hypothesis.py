"""Readings of a key weighed against each other by how badly each fits."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from pipeline.declarations import Declarations, Sibling
from store_schema.problems import AmbiguityError, ConfigError
from store_schema.provenance import Origin
from store_schema.semantics import SEMANTICS
from store_schema.units import to_canonical

# A reading is taken at this probability; below, it is a question to the user.
_CONFIDENT: Final = 0.95
# A declaration less probable than this is contradicted.
_CONTRADICTED: Final = 0.001
# Half the squared deviation of 5 sigma: beyond, a reading does not fit at all.
NO_FIT: Final = 12.5


@dataclass(frozen=True)
class Hypothesis:
    """One reading of a key.

    Attributes:
        semantics: What it means.
        unit: Unit of its values.
        misfit: Half the squared deviation from what physics expects, in sigmas: a negative
            log-likelihood.
        evidence: What was measured, a sentence.
        scale: Further factor: -1 where the values are the negative of the quantity, as a
            gradient is of forces; 2/3 for a quadrupole in Buckingham's convention.
        order: Columns of the values in the order of the store; empty where they are in it.
        about_center: A dipole about the centre of mass.
    """

    semantics: str
    unit: str
    misfit: float
    evidence: str
    scale: float = 1.0
    order: tuple[int, ...] = ()
    about_center: bool = False

    @property
    def factor(self) -> float:
        """Factor to the canonical unit."""
        return self.scale * to_canonical(self.unit, SEMANTICS[self.semantics].quantity)


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


def deviation(value: float, expected: float, sigma: float) -> float:
    """Returns the misfit of a normally distributed value."""
    off = (value - expected) / sigma
    return 0.5 * off * off  # a power would raise where this becomes infinite


def log_deviation(value: float, expected: float, sigma: float) -> float:
    """Returns the misfit of a positive value whose logarithm is normally distributed."""
    if not value > 0:
        return math.inf
    return deviation(math.log(value / expected), 0.0, sigma)


def settle(
    place: str, key: str, hypotheses: Sequence[Hypothesis], declarations: Declarations
) -> Conclusion:
    """Takes the reading that physics, or the user, decides for.

    Args:
        place: Source, for messages.
        key: Key of the array.
        hypotheses: Every reading that its shape allows.
        declarations: What the user declared.

    Raises:
        AmbiguityError: Several readings are left, or none fits.
        ConfigError: A declaration fits no reading, or physics contradicts it.
    """
    probabilities = _probabilities(hypotheses)
    if key in declarations.siblings and key not in declarations.semantics:
        found = _as_sibling(declarations.siblings[key], hypotheses, probabilities)
        if found is not None:
            return found
    meaning = declarations.semantics.get(key)
    left = [
        (hypothesis, probability)
        for hypothesis, probability in zip(hypotheses, probabilities, strict=True)
        if meaning in (None, hypothesis.semantics)
        and declarations.unit(key, hypothesis.semantics) in (None, hypothesis.unit)
    ]
    if not left:
        raise _impossible(place, key, hypotheses, declarations)
    best, probability = max(left, key=lambda item: item[1])
    unit_declared = declarations.unit(key, best.semantics) is not None
    several_meanings = len({hypothesis.semantics for hypothesis in hypotheses}) > 1
    several_units = len({h.unit for h in hypotheses if h.semantics == best.semantics}) > 1
    declared: Origin = "declared"
    if len(left) < len(hypotheses):
        settled = _probabilities([hypothesis for hypothesis, _ in left])
        lone = max(settled)
        if probability < _CONTRADICTED and min(h.misfit for h in hypotheses) < NO_FIT:
            if not declarations.force:
                raise _contradicted(place, key, best, hypotheses)
            declared = "forced"
        if lone < _CONFIDENT:
            raise _ambiguous(place, key, [hypothesis for hypothesis, _ in left])
    elif probability < _CONFIDENT or best.misfit > NO_FIT:
        raise _ambiguous(place, key, hypotheses)
    return Conclusion(
        best,
        probability,
        declared if meaning else "physics" if several_meanings else "alias",
        declared if unit_declared else "physics" if several_units else "default",
    )


def _as_sibling(
    sibling: Sibling, hypotheses: Sequence[Hypothesis], probabilities: Sequence[float]
) -> Conclusion | None:
    """Takes the reading of a file beside this one; None if nothing or too much speaks against."""
    # Around neutral molecules the point makes no difference, and is not weighed.
    about_center = any(hypothesis.about_center for hypothesis in hypotheses)
    for hypothesis, probability in zip(hypotheses, probabilities, strict=True):
        same = (
            hypothesis.semantics == sibling.semantics
            and math.isclose(hypothesis.factor, sibling.factor)
            and hypothesis.order == sibling.order
            and (hypothesis.about_center == sibling.about_center or not about_center)
        )
        if same and probability > _CONTRADICTED and hypothesis.misfit < NO_FIT:
            evidence = f"as in {sibling.place}; here {hypothesis.evidence}"
            taken = replace(hypothesis, evidence=evidence, about_center=sibling.about_center)
            origin: Origin = "physics" if probability > _CONFIDENT else "derived"
            return Conclusion(taken, max(probability, _CONFIDENT), origin, origin)
    return None


def unsettled(hypotheses: Sequence[Hypothesis], reason: str) -> list[Hypothesis]:
    """Returns readings that nothing speaks for or against."""
    return [replace(h, misfit=0.0, evidence=reason) for h in hypotheses]


def _probabilities(hypotheses: Sequence[Hypothesis]) -> list[float]:
    least = min(h.misfit for h in hypotheses)
    if not math.isfinite(least):
        return [1 / len(hypotheses)] * len(hypotheses)
    weights = [math.exp(least - h.misfit) for h in hypotheses]
    return [weight / sum(weights) for weight in weights]


def _listing(hypotheses: Sequence[Hypothesis]) -> str:
    ordered = sorted(hypotheses, key=lambda h: h.misfit)[:4]
    return "; ".join(f"{h.semantics} in {h.unit or '1'}: {h.evidence}" for h in ordered)


def _remedy(key: str, hypotheses: Sequence[Hypothesis]) -> str:
    best = min(hypotheses, key=lambda h: h.misfit)
    parts = []
    if len({h.semantics for h in hypotheses}) > 1:
        parts.append(f"--declare {key}={best.semantics}")
    if len({h.unit for h in hypotheses if h.semantics == best.semantics}) > 1:
        parts.append(f"--declare unit.{key}={best.unit}")
    return f"Say which, such as {' '.join(parts) or f'--declare {key}={best.semantics}'}"


def _ambiguous(place: str, key: str, hypotheses: Sequence[Hypothesis]) -> AmbiguityError:
    found = "several" if any(h.misfit <= NO_FIT for h in hypotheses) else "none"
    return AmbiguityError.of(
        f"{place}, {key}",
        expected="values that only one reading explains",
        received=f"{found} that could ({_listing(hypotheses)})",
        consequence="a guess could be silently wrong, so nothing was stored",
        remedy=_remedy(key, hypotheses),
    )


def _contradicted(
    place: str, key: str, declared: Hypothesis, hypotheses: Sequence[Hypothesis]
) -> ConfigError:
    best = min(hypotheses, key=lambda h: h.misfit)
    return ConfigError.of(
        f"{place}, {key}",
        expected=f"{best.semantics} in {best.unit or '1'}, as {best.evidence}",
        received=f"the declaration of {declared.semantics} in {declared.unit or '1'}, "
        f"by which {declared.evidence}",
        consequence="nothing was stored",
        remedy="Correct the declaration, or force it if you know better",
    )


def _impossible(
    place: str, key: str, hypotheses: Sequence[Hypothesis], declarations: Declarations
) -> ConfigError:
    return ConfigError.of(
        f"{place}, {key}",
        expected="one of " + ", ".join(sorted({h.semantics for h in hypotheses})),
        received=f"the declaration of {declarations.semantics.get(key)!r}",
        consequence="its shape does not allow it, so nothing was stored",
        remedy="Correct the declaration",
    )
