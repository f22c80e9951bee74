"""Annotations checked by jaxtyping and beartype, for the first calls of a function in each test.

Checking a call takes longer than what a small function does, and the hundredth call of a test
passes what the others did. So does making the check of a function that another one defines each
time it is called.
"""

import functools
import inspect
from collections import Counter

import jaxtyping
from beartype import BeartypeConf, beartype
from beartype.roar import BeartypeDecorHintException

_CONF = BeartypeConf(is_pep484_tower=True)  # an int will do for a float, as for mypy
_CHECKED = 10  # calls of a function in a test
_calls = Counter()
_jaxtyped = jaxtyping.jaxtyped


def install(packages):
    """Has the annotations of packages checked that are imported from here on."""
    jaxtyping.jaxtyped = _sampled
    jaxtyping.install_import_hook(packages, f"{checked.__module__}.{checked.__name__}")


def begin_test():
    """Has the first calls of each function checked anew."""
    _calls.clear()


def checked(function):
    """Checks calls against annotations, where beartype can.

    It cannot tell `Self` in a lone method, nor a Protocol that is not made for it.
    """
    try:
        return beartype(function, conf=_CONF)
    except BeartypeDecorHintException:
        return function


def _sampled(*, typechecker):
    """What jaxtyping's hook decorates everything with."""

    def decorate(function):
        if not inspect.isfunction(function):
            return _jaxtyped(function, typechecker=typechecker)
        source = id(function.__code__)  # the same, however often it is defined
        check = None

        @functools.wraps(function)
        def call(*args, **kwargs):
            nonlocal check
            __tracebackhide__ = True
            _calls[source] += 1
            if _calls[source] > _CHECKED:
                return function(*args, **kwargs)
            if check is None:
                check = _jaxtyped(function, typechecker=typechecker)
            return check(*args, **kwargs)

        return call

    return decorate
