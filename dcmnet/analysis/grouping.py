"""What molecules and grid points are grouped by, and how the groups are called."""

from __future__ import annotations

import itertools
import re
from typing import Any, Final

import numpy as np
import pandas as pd
from ase.data import chemical_symbols
from jaxtyping import Float, Int, Shaped

# Lower ends of the distance shells, in van der Waals radii of the nearest atom; the last
# has no upper end. They lie between the surfaces that ESPs are usually computed on (1.4,
# 1.6, 1.8, 2.0), whose points rounding would deal to both sides of a border.
SHELLS: Final = (0.0, 1.1, 1.3, 1.5, 1.7, 1.9, 2.1, 2.6, 3.1)
# A grid point's place is the element of the nearest atom and the shell, in one number.
PLACES: Final = len(chemical_symbols) * len(SHELLS)
NOWHERE: Final = -1  # of a point that does not count
# Groups of sizes at most, of equal width.
_SIZE_GROUPS: Final = 10
UNKNOWN: Final = "unknown"


def shell_labels() -> list[str]:
    """Returns the names of the distance shells, such as ``1.3-1.5``."""
    between = [f"{low:g}-{high:g}" for low, high in itertools.pairwise(SHELLS)]
    return [f"<{SHELLS[1]:g}", *between[1:], f">{SHELLS[-1]:g}"]


def shell_of(distance: Float[Any, "*shape"]) -> Int[Any, "*shape"]:
    """Returns the index of the shell of each distance, in van der Waals radii.

    Works on arrays of numpy and, within what is compiled, of JAX.
    """
    # Few borders: several times faster than a search.
    return sum((distance >= low).astype(np.int16) for low in SHELLS[1:])


def charge_label(charge: float) -> str:
    """Returns a total charge as chemists write it: -1, 0, +1."""
    if not np.isfinite(charge):
        return UNKNOWN
    return f"{charge:+.0f}" if round(charge) else "0"


def by_charge(total_charge: Shaped[np.ndarray, " molecule"]) -> pd.Categorical:
    """Groups molecules by their total charge, rounded; an unknown one comes last."""
    charges = np.rint(np.asarray(total_charge, np.float64))
    known = np.unique(charges[np.isfinite(charges)])
    labels = [charge_label(charge) for charge in known]
    codes = np.where(np.isfinite(charges), np.searchsorted(known, charges), len(known))
    categories = [*labels, UNKNOWN] if not np.isfinite(charges).all() else labels
    return pd.Categorical.from_codes(codes.astype(int), categories)


def by_size(n_atoms: Int[np.ndarray, " molecule"]) -> pd.Categorical:
    """Groups molecules by their number of atoms, in at most ten groups of one width."""
    if not len(n_atoms):
        return pd.Categorical([])
    least, most = int(n_atoms.min()), int(n_atoms.max())
    width = -(-(most - least + 1) // _SIZE_GROUPS)
    lows = range(least, most + 1, width)
    labels = [f"{low}-{low + width - 1}" if width > 1 else f"{low}" for low in lows]
    return pd.Categorical.from_codes((n_atoms - least) // width, labels)


def formulas(atomic_numbers: Int[np.ndarray, "molecule atom"]) -> list[str]:
    """Returns the formula of each molecule, carbon and hydrogen first (Hill)."""
    elements = np.unique(atomic_numbers[atomic_numbers > 0])
    counts = np.stack([(atomic_numbers == z).sum(axis=1) for z in elements], axis=1)
    compositions, index = np.unique(counts, axis=0, return_inverse=True)
    names = [_hill(dict(zip(elements.tolist(), row, strict=True))) for row in compositions.tolist()]
    return [names[i] for i in index.ravel()]


def _hill(counts: dict[int, int]) -> str:
    present = {chemical_symbols[z]: int(n) for z, n in counts.items() if n}
    first = ["C", "H"] if "C" in present else []
    order = [s for s in first if s in present] + sorted(present.keys() - set(first))
    return "".join(f"{s}{present[s] if present[s] > 1 else ''}" for s in order)


def elements_of(formula: str) -> list[str]:
    """Returns the elements of a formula."""
    return re.findall(r"[A-Z][a-z]?", formula)
