"""What a check finds: which molecules fail it, and why."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np


class Finding(NamedTuple):
    """Molecules that fail a check.

    Attributes:
        failed: Which ones, one flag per molecule.
        reason: Says why one of them failed, given its row in the block.
    """

    failed: np.ndarray
    reason: Callable[[int], str]
