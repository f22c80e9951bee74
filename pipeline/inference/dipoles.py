"""Dipoles: what they must be to agree with the ESP, the monopoles, or rougher knowledge."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

import numpy as np
from jaxtyping import Float

from pipeline.chemistry.centers import ORIGIN, POINTS, spelled
from pipeline.inference.hypothesis import (
    NO_FIT,
    Hypothesis,
    deviation,
    unsettled,
    weigh,
)
from pipeline.inference.reference import Reference, line

# Below, a rough reference says nothing, however well a ratio fits a unit.
_LEAST_ALIGNMENT: Final = 0.6
_ALIGNMENT_SPREAD, _ROUGH_ALIGNMENT_SPREAD = 0.05, 0.16
# In e·Å, over ions; less does not distinguish the points that dipoles are about.
_MOVED: Final = 0.01
_NEARLY_WHOLE: Final = 0.1
# In errors: a dipole that is further off says nothing more of the point.
_FURTHEST: Final = 10.0
# How seldom dipoles are about each point, as negative logarithms.
_SELDOM: Final = {ORIGIN: 0.0, "center_of_mass": 1.0, "center_of_nuclear_charge": 2.5}
# In e·Å: dipoles below this are mostly errors of what they are held against.
_LEAST_DIPOLE: Final = 0.01
_ALL_ZERO: Final = "it is zero or missing in every molecule that was looked at"


def dipole_hypotheses(
    semantics: str,
    values: np.ndarray,
    references: Sequence[Reference],
    declared: str | None = None,
) -> list[Hypothesis]:
    """Weighs the units of molecular dipoles or their magnitudes, and the point they are about.

    Dipoles of ions depend on that point: about s, the dipole is that about the origin less q·s.

    Args:
        semantics: What the values are taken to be.
        values: As in the file, molecules of the sample first.
        references: What they should be; all of them count.
        declared: The point that they are said to be about.
    """
    flat = values.reshape(len(values), -1).astype(np.float64)
    size = semantics == "dipole_magnitude"
    about = _points(references, declared or ORIGIN, size=size)
    if len(about) == 1 or not np.nan_to_num(flat).any():
        ((_, expected), *_) = about.items()
        return _against(semantics, flat, references, expected)
    found = [
        replace(
            h,
            evidence=("" if point == ORIGIN else f"about the {spelled(point)} ") + h.evidence,
            prior=h.prior + _SELDOM[point],
            about=point,
        )
        for point, expected in about.items()
        for h in _against(semantics, flat, references, expected)
    ]
    return [
        replace(
            h,
            misfit=h.misfit + _compared_with_others(flat * h.factor, h.about, about, references[0]),
        )
        for h in found
    ]


def _points(
    references: Sequence[Reference], first: str, *, size: bool
) -> dict[str, list[Float[np.ndarray, "molecule k"]]]:
    """Dipoles about each point that differs from those before it by more than errors, for ions."""
    ions = [_ions(reference) for reference in references]
    found: dict[str, list[np.ndarray]] = {}
    for point in dict.fromkeys((first, *POINTS)):
        dipoles = [_dipoles(reference, point, size=size) for reference in references]
        if not any(_same(dipoles, others, ions) for others in found.values()):
            found[point] = dipoles
    return found


def _same(
    here: Sequence[np.ndarray], there: Sequence[np.ndarray], ions: Sequence[np.ndarray]
) -> bool:
    return all(
        not some.any() or np.sqrt(np.mean((ours - theirs)[some] ** 2)) <= _MOVED
        for ours, theirs, some in zip(here, there, ions, strict=True)
    )


def _ions(reference: Reference) -> np.ndarray:
    return np.abs(_whole(reference.charges)) > 0


def _shift(reference: Reference, about: str) -> Float[np.ndarray, "molecule 3"]:
    """What dipoles about the origin have more than those about another point, in e·Å."""
    if about == ORIGIN:
        return np.zeros_like(reference.dipole)
    return _whole(reference.charges)[:, None] * reference.centers[about]


def _dipoles(reference: Reference, about: str, *, size: bool) -> Float[np.ndarray, "molecule k"]:
    """Dipoles about a point, or their magnitudes."""
    dipole = reference.dipole - _shift(reference, about)
    return np.linalg.norm(dipole, axis=1)[:, None] if size else dipole


def _whole(charges: Float[np.ndarray, " molecule"]) -> Float[np.ndarray, " molecule"]:
    """Net charges, 0 where they are not near a whole number."""
    return np.where(np.abs(charges - np.rint(charges)) < _NEARLY_WHOLE, np.rint(charges), 0.0)


def _compared_with_others(
    given: Float[np.ndarray, "molecule k"],
    point: str,
    about: Mapping[str, Sequence[np.ndarray]],
    reference: Reference,
) -> float:
    """How much worse a point explains the dipoles of ions than the best point does.

    Both are judged in the same unit; the dipoles of all molecules decide which unit it is.
    """
    off = {name: _off(given, expected[0], reference) for name, expected in about.items()}
    return min(off[point] - min(off.values()), NO_FIT)


def _off(
    given: Float[np.ndarray, "molecule k"],
    expected: Float[np.ndarray, "some k"],
    reference: Reference,
) -> float:
    """Misfit of the dipoles of ions, of which those of the same atoms share their errors."""
    ions = _ions(reference)
    apart = np.linalg.norm((given[reference.rows] - expected)[ions], axis=1) / reference.error
    apart = np.minimum(apart[np.isfinite(apart)], _FURTHEST)
    n = len(np.unique(reference.kinds[ions]))
    return 0.5 * n * float(np.mean(apart**2)) if apart.size else 0.0


def _against(
    semantics: str,
    given: Float[np.ndarray, "molecule k"],
    references: Sequence[Reference],
    expected: Sequence[np.ndarray],
) -> list[Hypothesis]:
    """Weighs the units of dipoles that should be ``expected`` by each reference, in e·Å."""
    curves, said, silent, extra = [], [], "there is nothing to hold it against", 0.0
    for reference, dipoles in zip(references, expected, strict=True):
        values = given[reference.rows]
        known = np.isfinite(values).all(axis=1)
        ratio, alignment = line(values[known], dipoles[known])
        if not math.isfinite(ratio) or not ratio:
            silent = _ALL_ZERO
        elif not np.sqrt(np.mean(dipoles[known] ** 2)) > _LEAST_DIPOLE:
            silent = f"that of {reference.origin} is next to nothing"
        elif not reference.is_sharp and abs(alignment) < _LEAST_ALIGNMENT:
            silent = f"{reference.origin} is too rough to tell (correlation {alignment:.2f})"
        else:
            spread = _ALIGNMENT_SPREAD if reference.is_sharp else _ROUGH_ALIGNMENT_SPREAD
            extra += deviation(abs(alignment), 1.0, spread)
            curves.append(reference.evidence(ratio))
            said.append((ratio, alignment, reference.origin))
    if not curves:
        return unsettled(semantics, silent)
    return weigh(
        semantics,
        curves,
        lambda factor: (
            "it is "
            + " and ".join(
                f"{factor / ratio:.3g} times that of {origin} "
                f"(correlation {math.copysign(1, factor) * alignment:.2f})"
                for ratio, alignment, origin in said
            )
        ),
        extra=extra,
    )
