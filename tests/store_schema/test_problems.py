"""Problems: four facts each, all of them reported at once."""

import pytest
from pydantic import ValidationError

from store_schema import problems
from store_schema.problems import DcmError, Problem

FACTS = {
    "place": "a.npz, key 'esp'",
    "wrong": "a value is NaN",
    "consequence": "molecule 3 is set aside",
    "remedy": "Mend the file",
}


def test_a_problem_tells_all_four_facts():
    assert all(fact in str(Problem(**FACTS)) for fact in FACTS.values())


@pytest.mark.parametrize("missing", FACTS)
def test_no_fact_may_be_left_out(missing):
    with pytest.raises(ValidationError):
        Problem(**{name: fact for name, fact in FACTS.items() if name != missing})


def test_an_error_tells_every_problem():
    several = [Problem(**{**FACTS, "place": f"file {i}"}) for i in range(3)]
    error = DcmError(iter(several))
    assert error.problems == tuple(several)
    assert str(error).splitlines() == [str(problem) for problem in several]


def test_an_error_without_a_problem_is_a_mistake():
    with pytest.raises(ValueError, match="at least one"):
        DcmError([])


KINDS = [
    kind
    for kind in vars(problems).values()
    if isinstance(kind, type) and issubclass(kind, DcmError)
]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_kind_can_be_caught_as_one(kind):
    facts = dict(FACTS)
    error = kind.of(facts.pop("place"), **facts)
    assert type(error) is kind
    assert error.problems == (Problem(**FACTS),)
