"""Beartype as the checker behind jaxtyping's annotations."""

from beartype import BeartypeConf, beartype
from beartype.roar import BeartypeDecorHintException

_CONF = BeartypeConf(is_pep484_tower=True)  # an int will do for a float, as for mypy


def checked(function):
    """Checks calls against annotations, where beartype can.

    It cannot tell `Self` in a lone method, nor a Protocol that is not made for it.
    """
    try:
        return beartype(function, conf=_CONF)
    except BeartypeDecorHintException:
        return function
