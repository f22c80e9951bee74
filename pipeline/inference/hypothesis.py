"""Evidence as curves over the factor of a key, and units as points on them.

What the values of a key must be multiplied by, to be what they are taken for, is c = s·exp(x):
a sign and a logarithm x. Evidence says how far off every x is; a unit is one x, and "another
factor, which no unit has" is all of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float

from pipeline.chemistry.centers import ORIGIN, spelled
from store_schema.semantics import SEMANTICS
from store_schema.units import FACTORS, SIGNED, to_canonical, weight_of

# Half the squared deviation of 4 sigma: beyond, a reading does not fit, and is not proposed.
NO_FIT: Final = 8.0
# A reading that all evidence together is this far from, 10 sigma, is contradicted outright.
CONTRADICTED: Final = 50.0
# A key has another factor than any unit this often; it may be anything within so many e-folds.
_ANOTHER: Final = 0.02
_RANGE: Final = 30.0
# Curves are added up on so many points, within so many sigma of their centre.
_POINTS, _WIDTH = 2001, 12.0
# How seldom the opposite sign is met, as a negative logarithm. It is asked about, never taken.
_OPPOSITE: Final = 7.0
# What a sign that contradicts costs: evidence without doubt.
_WRONG_SIGN: Final = 2 * CONTRADICTED


@runtime_checkable
class Evidence(Protocol):
    """What speaks for the factor of a key."""

    @property
    def center(self) -> float:
        """Logarithm of the factor that it speaks for."""

    @property
    def sigma(self) -> float:
        """Its standard deviation, near the centre."""

    @property
    def sign(self) -> int:
        """Sign of that factor; 0 if it says nothing of it."""

    def misfit(self, x: Float[np.ndarray, " x"]) -> Float[np.ndarray, " x"]:
        """Returns the negative log-likelihood of logarithms, relative to that at the centre."""
        ...


@dataclass(frozen=True)
class Curve:
    """A factor whose logarithm is normally distributed; see ``Evidence``.

    Attributes:
        center: The logarithm that it speaks for.
        sigma: Its standard deviation.
        broad: Probability that the evidence is of a wider kind, which says less; see
            ``broad_sigma``.
        broad_sigma: Standard deviation in that case.
        sign: Sign of the factor that it speaks for; 0 for a size, which has none.
    """

    center: float
    sigma: float
    broad: float = 0.0
    broad_sigma: float = 1.0
    sign: int = 1

    def misfit(self, x: Float[np.ndarray, " x"]) -> Float[np.ndarray, " x"]:
        """Negative log-likelihood; see ``Evidence``."""
        if not self.broad:
            return 0.5 * ((x - self.center) / self.sigma) ** 2
        narrow = np.exp(-0.5 * ((x - self.center) / self.sigma) ** 2)
        height = self.broad * self.sigma / self.broad_sigma
        wide = np.exp(-0.5 * ((x - self.center) / self.broad_sigma) ** 2)
        least = 1e-300
        total = (1 - self.broad) * narrow + height * wide
        return -np.log(np.maximum(total, least) / (1 - self.broad + height))


@dataclass(frozen=True)
class Hypothesis:
    """One reading of a key.

    Attributes:
        semantics: What it means.
        unit: Unit of its values; None for a factor that is none of a unit.
        misfit: Half the squared deviation from what physics expects, in sigmas: a negative
            log-likelihood.
        evidence: What was measured, a sentence.
        prior: Negative logarithm of how usual it is.
        scale: Further factor, such as 2/3 for a quadrupole in Buckingham's convention.
        order: Columns of the values in the order of the store; empty where they are in it.
        about: Point that a dipole is about; see ``pipeline.chemistry.centers``.
        log_factor: Logarithm of the factor where there is no unit.
    """

    semantics: str
    unit: str | None
    misfit: float
    evidence: str
    prior: float = 0.0
    scale: float = 1.0
    order: tuple[int, ...] = ()
    about: str = ORIGIN
    log_factor: float = math.nan

    @property
    def factor(self) -> float:
        """Factor to the canonical unit."""
        if self.unit is None:
            return self.scale * math.exp(self.log_factor) * SEMANTICS[self.semantics].sign
        meaning = SEMANTICS[self.semantics]
        return self.scale * meaning.sign * to_canonical(self.unit, meaning.quantity)

    @property
    def name(self) -> str:
        """How messages call it."""
        unit = "a factor that no unit has" if self.unit is None else self.unit or "1"
        about = "" if self.about == ORIGIN else f" about the {spelled(self.about)}"
        return f"{self.semantics} in {unit}{about}"


def weigh(
    semantics: str,
    curves: Sequence[Evidence],
    evidence: Callable[[float], str],
    *,
    extra: float = 0.0,
    another: float = _ANOTHER,
    **fields: object,
) -> list[Hypothesis]:
    """Holds every unit, and any other factor, against evidence about the factor.

    Args:
        semantics: What the key is taken to mean.
        curves: The evidence; without any, nothing speaks for or against a unit.
        evidence: Says what was measured, given the factor.
        extra: Misfit that all of these readings share.
        another: How often the factor is none of a unit.
        **fields: Further fields of the hypotheses.
    """
    scale = float(fields.get("scale", 1.0))  # type: ignore[arg-type]
    quantity = SEMANTICS[semantics].quantity
    made = [
        Hypothesis(
            semantics,
            mark + unit,
            extra + _misfit(curves, math.log(scale * factor), sign),
            evidence(sign * scale * factor),
            -math.log(weight_of(unit)) + (_OPPOSITE if sign < 0 else 0.0),
            **fields,  # type: ignore[arg-type]
        )
        for mark, sign in (("", 1), ("-", -1))[: 2 if quantity in SIGNED else 1]
        for unit, factor in FACTORS[quantity].items()
    ]
    if not curves:
        return made
    sharpest = min(curves, key=lambda curve: curve.sigma)
    reach = _WIDTH * max(curve.sigma for curve in curves)
    span = np.linspace(sharpest.center - reach, sharpest.center + reach, _POINTS)
    misfits = _misfits(curves, span)
    least = int(misfits.argmin())
    density = np.exp(misfits[least] - misfits).sum() * (span[1] - span[0]) / _RANGE
    sign = _WRONG_SIGN if any(curve.sign < 0 for curve in curves) else 0.0
    unnamed = Hypothesis(
        semantics,
        None,
        extra + float(misfits[least]) + sign,
        f"they need a factor of {math.exp(span[least]):.3g}, which no unit has",
        -math.log(another * density) - math.log(sum(math.exp(-h.prior) for h in made)),
        log_factor=float(span[least]) - math.log(scale),
        **fields,  # type: ignore[arg-type]
    )
    return [*made, unnamed]


def _misfit(curves: Sequence[Evidence], x: float, sign: int) -> float:
    wrong = sum(curve.sign == -sign for curve in curves)
    return float(_misfits(curves, np.array([x]))[0]) + wrong * _WRONG_SIGN


def _misfits(curves: Sequence[Evidence], x: Float[np.ndarray, " x"]) -> Float[np.ndarray, " x"]:
    return sum((curve.misfit(x) for curve in curves), np.zeros(len(x)))


def curve(ratio: float, sigma: float, broad: float = 0.0, broad_sigma: float = 1.0) -> Curve:
    """Makes the evidence that a factor is ``ratio``, with a relative error; see ``Curve``."""
    sign = -1 if ratio < 0 else 1
    return Curve(math.log(abs(ratio)), sigma, broad, broad_sigma, sign)


def deviation(value: float, expected: float, sigma: float) -> float:
    """Returns the misfit of a normally distributed value."""
    off = (value - expected) / sigma
    return 0.5 * off * off  # a power would raise where this becomes infinite


def by_chance(sigma: float) -> float:
    """Returns how unlikely evidence is that any factor may have made, as a negative logarithm."""
    return math.log(_RANGE / (sigma * math.sqrt(math.tau)))


def log_deviation(value: float, expected: float, sigma: float) -> float:
    """Returns the misfit of a positive value whose logarithm is normally distributed."""
    if not value > 0:
        return math.inf
    return deviation(math.log(value / expected), 0.0, sigma)


def unsettled(semantics: str, reason: str) -> list[Hypothesis]:
    """Returns readings that nothing speaks for or against."""
    return weigh(semantics, (), lambda _: reason)


def certain(semantics: str, reason: str, unit: str | None = None) -> list[Hypothesis]:
    """Returns the reading of values whose unit makes no difference: that of the store."""
    known = FACTORS[SEMANTICS[semantics].quantity]
    chosen = unit or next(name for name, factor in known.items() if factor == 1)
    return [Hypothesis(semantics, chosen, 0.0, reason)]


def probabilities(hypotheses: Sequence[Hypothesis]) -> list[float]:
    """Returns the probability of each reading among all of them."""
    costs = [h.misfit + h.prior for h in hypotheses]
    least = min(costs)
    if not math.isfinite(least):
        return [1 / len(costs)] * len(costs)
    weights = [math.exp(least - cost) for cost in costs]
    return [weight / sum(weights) for weight in weights]


def evidence_of_all(hypotheses: Sequence[Hypothesis]) -> float:
    """Returns the negative logarithm of how probable what was measured is, over all readings."""
    priors = [h.prior for h in hypotheses]
    costs = [h.misfit + h.prior for h in hypotheses]
    least = min(costs)
    if not math.isfinite(least):
        return CONTRADICTED
    norm = math.log(sum(math.exp(-prior) for prior in priors))
    return least - math.log(sum(math.exp(least - cost) for cost in costs)) + norm


def shifted(hypothesis: Hypothesis, misfit: float) -> Hypothesis:
    """Returns a reading that fits worse by ``misfit``."""
    return replace(hypothesis, misfit=hypothesis.misfit + misfit)
