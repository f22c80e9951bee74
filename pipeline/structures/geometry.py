"""One molecule at one geometry, and how readers of files hand it on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int


class Geometry(NamedTuple):
    """One molecule at one geometry.

    Attributes:
        place: How messages name it.
        name: Its name.
        numbers: Atomic numbers.
        positions: Positions in Å.
        charge: Net charge in e; None where nothing says it.
        multiplicity: 2S + 1; None where nothing says it.
    """

    place: str
    name: str
    numbers: Int[np.ndarray, " atom"]
    positions: Float[np.ndarray, "atom 3"]
    charge: int | None = None
    multiplicity: int | None = None


# Reads one record of a file: a geometry, or several conformers.
Record = Callable[[], Iterator[Geometry]]
