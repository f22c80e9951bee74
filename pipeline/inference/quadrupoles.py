"""Quadrupoles: units, orders of components and conventions, held against the ESP."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Final

import numpy as np
from jaxtyping import Float
from scipy.optimize import least_squares

from pipeline.chemistry.centers import spelled
from pipeline.chemistry.fitted_multipoles import traceless
from pipeline.inference.hypothesis import (
    CONTRADICTED,
    NO_FIT,
    Hypothesis,
    curve,
    deviation,
    unsettled,
    weigh,
)
from pipeline.inference.quadrupole_forms import Form, columns_of, forms
from pipeline.inference.reference import Line, Reference, line
from store_schema.semantics import QUADRUPOLE_COMPONENTS
from store_schema.units import FACTORS

# Relative errors of fitted quadrupoles, of which what they leave of the ESP is a part, and of
# those of monopoles compared with their dipoles'.
_SPREAD, _OF_RESIDUAL, _MONOPOLES = 0.02, 0.3, 1.5
# How far correlations are from 1: with the ESP's quadrupoles, and with those of monopoles, of all
# molecules and of one. In the reference data they are within 0.0015, 0.005, and 0.28.
_ALIGNMENT, _ALIGNMENT_OF_MONOPOLES, _ALIGNMENT_OF_ONE = 0.03, 0.015, 0.1
# What is left by the right order of components, as a part of the square, with the ESP and with
# monopoles; each of so many molecules says independently which order leaves least.
_LEFT, _LEFT_BY_MONOPOLES, _TELLING = 5e-4, 0.03, 10
# Dipoles on the atoms do not explain the ESP of F2, nor give its quadrupole.
_EXPLAINED: Final = 0.1
# Quadrupoles are about another point if they are this far off, as a part of their size, and if
# about that point they are much less so; for fewer molecules it cannot be seen.
_MISPLACED, _CLOSER, _LEAST_TO_MOVE = 0.1, 0.5, 4
_FACTORS: Final = tuple(FACTORS["quadrupole"].values())
# Traces and asymmetries below this part of a tensor are rounding.
_ROUNDING: Final = 0.02


def quadrupole_hypotheses(
    semantics: str,
    values: np.ndarray,
    reference: Reference | None,
    order: str | None = None,
    convention: str | None = None,
) -> list[Hypothesis]:
    """Weighs units, orders and conventions of quadrupoles.

    Args:
        semantics: ``quadrupole_components`` or ``quadrupole_tensor``.
        values: As in the file, molecules of the sample first.
        reference: What they should be; None where nothing says.
        order: Order of the components, where it is declared.
        convention: Convention, where it is declared.
    """
    values, known = values.reshape(len(values), -1).astype(np.float64), reference
    if known is None:
        values = values[np.isfinite(values).all(axis=1)]
    else:
        values, known = _compared(values, known)
    if not values.any() or (known is not None and not np.isfinite(known.quadrupole).all()):
        return unsettled(semantics, "there is none to hold against another")
    written = forms(semantics, order, convention)
    tensors = {form.order: quadrupole_tensor(values, columns_of(form.order)) for form in written}
    lines = {}
    if known is not None:
        lines = {name: line(traceless(t), known.quadrupole) for name, t in tensors.items()}
    without_trace = {name for name, tensor in tensors.items() if _trace(tensor) <= _ROUNDING}
    found = []
    for form in written:
        against = 0.0
        if form.order not in without_trace:
            # Where one order leaves no trace, it is the diagonal that it says.
            against += 2 * NO_FIT if without_trace else 0.0
            against += 2 * CONTRADICTED if form.convention == "buckingham" else 0.0
        if known is None:
            readings = weigh(semantics, (), lambda _: _NOTHING, extra=against, scale=form.scale)
        else:
            against += _worse_than_another(form.order, lines, known)
            readings = _weighed(
                semantics, tensors[form.order], known, lines[form.order], form, against=against
            )
        columns = columns_of(form.order)
        found += [replace(h, prior=h.prior + form.seldom, order=columns) for h in readings]
    return found or unsettled(semantics, "it is zero in every molecule that was looked at")


_NOTHING: Final = "there is no ESP and no monopoles to hold it against"


def _compared(
    values: Float[np.ndarray, "molecule k"], reference: Reference
) -> tuple[Float[np.ndarray, "known k"], Reference]:
    """Leaves the molecules whose quadrupoles are known, from the file and from the reference."""
    values = values[reference.rows]
    known = np.isfinite(values).all(axis=1)
    if (known & (reference.residual < _EXPLAINED)).any():
        known &= reference.residual < _EXPLAINED
    return values[known], reference._replace(
        rows=reference.rows[known],
        residual=reference.residual[known],
        dipole=reference.dipole[known],
        quadrupole=reference.quadrupole[known],
        charges=reference.charges[known],
        kinds=reference.kinds[known],
        centers={name: center[known] for name, center in reference.centers.items()},
    )


def _worse_than_another(order: str, lines: Mapping[str, Line], reference: Reference) -> float:
    """How much less probable an order is than the best, by what each leaves of the quadrupoles.

    The likelihood of normal deviations whose size is not known: a power of their squares.
    """
    least = _LEFT if reference.is_sharp else _LEFT_BY_MONOPOLES
    left = {name: max(0.0, 1 - found.alignment**2) + least for name, found in lines.items()}
    molecules = min(len(reference.quadrupole), _TELLING)
    return molecules * math.log(left[order] / min(left.values()))


def _weighed(
    semantics: str,
    tensors: Float[np.ndarray, "molecule 3 3"],
    reference: Reference,
    found: Line,
    form: Form,
    *,
    against: float,
) -> list[Hypothesis]:
    """Weighs units of tensors whose components are in order."""
    expected, given = reference.quadrupole, traceless(tensors)
    size = np.linalg.norm(tensors)
    skew = float(np.linalg.norm(tensors - tensors.transpose(0, 2, 1)) / size)
    ratio, alignment = found
    if not math.isfinite(ratio) or not ratio:
        return []
    spread = _MONOPOLES * reference.spread
    aligned = _ALIGNMENT_OF_MONOPOLES + _ALIGNMENT_OF_ONE / math.sqrt(len(given))
    if reference.is_sharp:
        residual = float(np.median(reference.residual))
        spread, aligned = math.hypot(_SPREAD, _OF_RESIDUAL * residual), _ALIGNMENT
    misfit = against + deviation(abs(alignment), 1.0, aligned) + deviation(skew, 0.0, _ROUNDING)
    best = math.copysign(1, ratio) * min(
        (form.scale * factor for factor in _FACTORS),
        key=lambda factor: abs(math.log(factor / abs(ratio))),
    )
    moved = _moved(best * given, expected, reference)
    if moved:
        misfit += 2 * NO_FIT
    evidence = curve(ratio, spread, broad=reference.broad[0], broad_sigma=reference.broad[1])
    return weigh(
        semantics,
        [evidence],
        lambda factor: (
            f"{form.text}it is {factor / ratio:.3g} times that of {reference.origin} "
            f"(correlation {math.copysign(1, factor) * alignment:.2f}){moved}"
        ),
        extra=misfit,
        scale=form.scale,
    )


def _trace(tensors: Float[np.ndarray, "molecule 3 3"]) -> float:
    """Traces of tensors, over their size."""
    size = float(np.linalg.norm(tensors))
    return float(np.linalg.norm(np.trace(tensors, axis1=1, axis2=2))) / size if size else 0.0


def _moved(
    given: Float[np.ndarray, "molecule 3 3"],
    expected: Float[np.ndarray, "molecule 3 3"],
    reference: Reference,
) -> str:
    """Says that quadrupoles are about another point than the origin; empty if they are not.

    About a point s, Σ q (r - s)(r - s) = Q - μ s - s μ + q s s: one s for all molecules is
    fitted, and the centres of the molecules are tried.
    """
    if not reference.is_sharp or not len(given):
        return ""
    charges = np.rint(reference.charges)

    def about(points: Float[np.ndarray, "molecule 3"]) -> Float[np.ndarray, "molecule 3 3"]:
        mixed = reference.dipole[:, :, None] * points[:, None, :]
        own = charges[:, None, None] * points[:, :, None] * points[:, None, :]
        return traceless(expected - mixed - mixed.transpose(0, 2, 1) + own)

    def off(points: np.ndarray) -> np.ndarray:
        return (about(np.broadcast_to(points, reference.dipole.shape)) - given).ravel()

    here = float(np.linalg.norm(off(np.zeros(3))))
    fitted = least_squares(off, np.zeros(3), method="trf")
    places = {
        f"a point {np.linalg.norm(fitted.x):.1f} Å from the origin": np.linalg.norm(fitted.fun),
    } | {
        f"the {spelled(name)}": np.linalg.norm(off(center))
        for name, center in reference.centers.items()
    }
    name, there = min(places.items(), key=lambda place: place[1])
    size = float(np.linalg.norm(expected))
    if len(given) < _LEAST_TO_MOVE or here < _MISPLACED * size or there > _CLOSER * here:
        return ""
    return f"; it seems to be about {name}"


def quadrupole_tensor(
    values: np.ndarray, order: tuple[int, ...] = ()
) -> Float[np.ndarray, "molecule 3 3"]:
    """Returns the tensors of quadrupoles that come as 6 or 9 components.

    Args:
        values: Components of each molecule.
        order: Columns of the six components in the order of ``QUADRUPOLE_COMPONENTS``; empty
            where they are in it.
    """
    flat = values.reshape(len(values), -1).astype(np.float64)
    if flat.shape[1] == 9:
        return flat.reshape(-1, 3, 3)
    if order:
        flat = flat[:, order]
    tensor = np.empty((len(flat), 3, 3))
    for column, (i, j) in enumerate(QUADRUPOLE_COMPONENTS):
        tensor[:, i, j] = tensor[:, j, i] = flat[:, column]
    return tensor
