"""Beartype as the checker behind jaxtyping's annotations."""

from beartype import beartype
from beartype.roar import BeartypeDecorHintPep673Exception


def checked(function):
    """Checks calls against annotations; beartype reads `Self` only where it has the class."""
    try:
        return beartype(function)
    except BeartypeDecorHintPep673Exception:
        return function
