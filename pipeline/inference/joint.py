"""The keys of a file read together: each reading of one changes what the others must be.

One key, such as the ESP, is what the others are held against. For each of its readings the
readings of every other key are weighed; the probability of all together, added up over what
does not matter, is that of each.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple

from pipeline.inference.hypothesis import (
    CONTRADICTED,
    Hypothesis,
    evidence_of_all,
    probabilities,
)

# Readings of the first key that are this much less probable than the best are left out.
_HOPELESS: Final = 40.0
# No other key speaks louder against a reading of the first than this.
_LOUDEST: Final = 2 * CONTRADICTED


class Weighed(NamedTuple):
    """A reading of a key and its probability, all keys taken together."""

    hypothesis: Hypothesis
    probability: float


Others = Callable[[Hypothesis], Mapping[str, Sequence[Hypothesis]]]


def alone(hypotheses: Sequence[Hypothesis]) -> list[Weighed]:
    """Weighs the readings of a key that no other depends on, the most probable first."""
    pairs = zip(hypotheses, probabilities(hypotheses), strict=True)
    return sorted((Weighed(*pair) for pair in pairs), key=lambda each: -each.probability)


def together(
    first: str, hypotheses: Sequence[Hypothesis], others: Others
) -> dict[str, list[Weighed]]:
    """Weighs the readings of keys of which all others are held against one.

    Args:
        first: That key.
        hypotheses: Its readings.
        others: Readings of the others, given one of the first.

    Returns:
        For each key its readings, the most probable first. Those of the others are as they
        were weighed given the best reading of the first that they have a part in.
    """
    least = min(h.misfit + h.prior for h in hypotheses)
    kept = [h for h in hypotheses if h.misfit + h.prior < least + _HOPELESS] or list(hypotheses)
    given = [others(h) for h in kept]
    costs = []
    for hypothesis, others_given in zip(kept, given, strict=True):
        own = sum(min(evidence_of_all(each), _LOUDEST) for each in others_given.values() if each)
        costs.append(hypothesis.misfit + hypothesis.prior + own)
    best = min(costs)
    weights = [math.exp(best - cost) for cost in costs]
    shares = [weight / sum(weights) for weight in weights]
    found = {
        first: sorted(
            (Weighed(*pair) for pair in zip(kept, shares, strict=True)),
            key=lambda each: -each.probability,
        )
    }
    for key in given[0]:
        found[key] = _over_all(key, given, shares)
    return found


def _over_all(
    key: str, given: Sequence[Mapping[str, Sequence[Hypothesis]]], shares: Sequence[float]
) -> list[Weighed]:
    """Readings of one key, added up over those of the first."""
    added: dict[tuple[object, ...], float] = {}
    shown: dict[tuple[object, ...], tuple[float, Hypothesis]] = {}
    for share, others_given in zip(shares, given, strict=True):
        readings = others_given.get(key, ())
        for h, p in zip(readings, probabilities(readings) if readings else (), strict=True):
            name = (h.semantics, h.unit, h.scale, h.order, h.about)
            added[name] = added.get(name, 0.0) + share * p
            if name not in shown or share > shown[name][0]:
                shown[name] = share, h
    pairs = [Weighed(shown[name][1], p) for name, p in added.items()]
    return sorted(pairs, key=lambda each: -each.probability)
