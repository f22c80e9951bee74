"""Evidence as curves, units as points on them, and keys that are read together."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.inference.hypothesis import Curve, Hypothesis, curve, probabilities, weigh
from pipeline.inference.joint import alone, together
from store_schema.units import FACTORS

centers = st.floats(-8, 2)
widths = st.floats(0.02, 0.5)


def read(curves, **options):
    return weigh("esp", curves, lambda _: "", **options)


@given(center=centers, sigma=widths)
def test_another_factor_is_weighed_by_the_area_under_the_curve(center, sigma):
    """Closed form: a normal curve over a range of 30, times how often it is met."""
    (unnamed,) = (h for h in read([Curve(center, sigma)], another=0.02) if h.unit is None)
    usual = sum(math.exp(-h.prior) for h in read([Curve(center, sigma)]) if h.unit is not None)
    expected = 0.02 * sigma * math.sqrt(2 * math.pi) / 30 * usual
    assert math.exp(-unnamed.prior) == pytest.approx(expected, rel=1e-3)
    assert unnamed.misfit == pytest.approx(0, abs=1e-3)
    assert unnamed.log_factor == pytest.approx(center, abs=0.02 * sigma + 1e-9)


@given(unit=st.sampled_from(["hartree/e", "eV/e", "kcal/mol/e", "kJ/mol/e"]), sigma=st.just(0.05))
def test_a_unit_in_the_middle_of_sharp_evidence_is_settled(unit, sigma):
    best = alone(read([curve(FACTORS["potential"][unit], sigma)]))[0]
    assert best.hypothesis.unit == unit
    assert best.probability > 0.98


@given(unit=st.sampled_from(["hartree/e", "eV/e", "kcal/mol/e"]))
def test_between_the_units_the_other_factor_wins(unit):
    best = alone(read([curve(1.4 * FACTORS["potential"][unit], 0.03)]))[0]
    assert best.hypothesis.unit is None
    assert best.hypothesis.factor == pytest.approx(1.4 * FACTORS["potential"][unit], rel=0.01)


@given(sigma=st.floats(1.5, 4))
def test_wide_evidence_settles_nothing(sigma):
    assert alone(read([curve(1.0, sigma)]))[0].probability < 0.98


def test_the_opposite_sign_is_another_reading():
    best = alone(read([curve(-1.0, 0.05)]))[0].hypothesis
    assert best.unit == "-hartree/e"
    assert best.factor == -1.0


@given(low=centers, sigma=widths, broad=st.floats(0.05, 0.4))
def test_a_wider_kind_of_evidence_forgives_what_is_far(low, sigma, broad):
    plain, forgiving = Curve(low, sigma), Curve(low, sigma, broad, 5 * sigma)
    x = low + np.linspace(0, 12, 50) * sigma
    assert (np.diff(forgiving.misfit(x)) >= -1e-9).all()
    assert forgiving.misfit(x[:1])[0] == pytest.approx(0, abs=1e-9)
    assert (forgiving.misfit(x[25:]) < plain.misfit(x[25:])).all()


@given(data=st.data())
def test_keys_read_together_are_those_of_all_combinations(data):
    """The sums are those of writing out every combination of readings."""
    costs = st.floats(0, 6)

    def readings(n):
        return [
            Hypothesis("esp", unit, data.draw(costs), "", data.draw(costs))
            for unit in list(FACTORS["potential"])[:n]
        ]

    first = readings(3)
    table = {h.unit: {"a": readings(2), "b": readings(3)} for h in first}
    found = together("first", first, lambda h: table[h.unit])
    weights: dict[tuple[str, str, str], float] = {}
    norm = {unit: {k: _norm(v) for k, v in each.items()} for unit, each in table.items()}
    for h in first:
        for a, b in itertools.product(*table[h.unit].values()):
            cost = sum(each.misfit + each.prior for each in (h, a, b))
            scale = norm[h.unit]["a"] * norm[h.unit]["b"]
            weights[h.unit, a.unit, b.unit] = math.exp(-cost) / scale
    total = sum(weights.values())
    for index, key in enumerate(("first", "a", "b")):
        for each in found[key]:
            share = sum(w for units, w in weights.items() if units[index] == each.hypothesis.unit)
            assert each.probability == pytest.approx(share / total, rel=1e-6, abs=1e-9)


def _norm(hypotheses):
    return sum(math.exp(-h.prior) for h in hypotheses)


def test_probabilities_are_those_of_misfit_and_prior():
    found = probabilities(
        [Hypothesis("esp", "eV/e", 1.0, "", 0.5), Hypothesis("esp", "J/e", 0, "")]
    )
    assert found == pytest.approx([1 / (1 + math.exp(1.5)), 1 / (1 + math.exp(-1.5))])
