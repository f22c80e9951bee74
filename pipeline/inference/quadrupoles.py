"""Quadrupoles: units, orders of components and conventions, held against the ESP."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Final

import numpy as np
from jaxtyping import Float
from scipy.optimize import least_squares

from pipeline.chemistry.centers import spelled
from pipeline.chemistry.fitted_multipoles import traceless
from pipeline.inference.hypothesis import NO_FIT, Hypothesis, curve, deviation, unsettled, weigh
from pipeline.inference.reference import Reference, line
from store_schema.semantics import QUADRUPOLE_COMPONENTS
from store_schema.units import FACTORS

# Relative errors of fitted quadrupoles, of which what they leave of the ESP is a part, and of
# those of monopoles compared with their dipoles'.
_SPREAD, _OF_RESIDUAL, _ALIGNMENT_SPREAD, _MONOPOLES = 0.02, 0.3, 0.06, 1.5
# Dipoles on the atoms do not explain the ESP of F2, nor give its quadrupole.
_EXPLAINED: Final = 0.1
# Quadrupoles are about another point if they are this far off, as a part of their size, and if
# about that point they are much less so; for fewer molecules it cannot be seen.
_MISPLACED, _CLOSER, _LEAST_TO_MOVE = 0.1, 0.5, 4
_FACTORS: Final = tuple(FACTORS["quadrupole"].values())
# Traces and asymmetries below this part of a tensor are rounding.
_ROUNDING: Final = 0.02
# The upper triangle by rows, the order of Gaussian, and the lower triangle by rows; and how seldom
# they are met, as negative logarithms.
_ORDERS: Final = {
    "": ((), 0.0),
    "in the order xx yy zz xy xz yz ": ((0, 3, 4, 1, 5, 2), 0.0),
    "in the order xx xy yy xz yz zz ": ((0, 1, 3, 2, 4, 5), 3.0),
}
# A. D. Buckingham, Q. Rev. Chem. Soc. 13 (1959) 183: 3/2 of the traceless tensor. Seldom
# written without a word, so that plain ones are preferred where nothing decides.
_BUCKINGHAM, _SELDOM = 2 / 3, 4.0


def quadrupole_hypotheses(
    semantics: str, values: np.ndarray, reference: Reference | None
) -> list[Hypothesis]:
    """Weighs units, orders and conventions of quadrupoles.

    Args:
        semantics: ``quadrupole_components`` or ``quadrupole_tensor``.
        values: As in the file, molecules of the sample first.
        reference: What they should be.
    """
    if reference is None:
        return unsettled(semantics, "there is no ESP and no monopoles to hold it against")
    values = values.reshape(len(values), -1)[reference.rows].astype(np.float64)
    known = np.isfinite(values).all(axis=1)
    if (known & (reference.residual < _EXPLAINED)).any():
        known &= reference.residual < _EXPLAINED
    values, expected = values[known], reference.quadrupole[known]
    reference = reference._replace(
        residual=reference.residual[known],
        dipole=reference.dipole[known],
        charges=reference.charges[known],
        kinds=reference.kinds[known],
        centers={name: center[known] for name, center in reference.centers.items()},
    )
    if not values.any() or not np.isfinite(expected).all():
        return unsettled(semantics, "there is none to hold against another")
    orders = _ORDERS if semantics == "quadrupole_components" else {"": _ORDERS[""]}
    tensors = {text: quadrupole_tensor(values, order) for text, (order, _) in orders.items()}
    # Where one order leaves no trace, it is the diagonal that it says.
    tracing = {text for text, tensor in tensors.items() if _trace(tensor) > _ROUNDING}
    hypotheses = [
        replace(
            h,
            order=order,
            evidence=text + h.evidence,
            prior=h.prior + seldom,
            misfit=h.misfit + (2 * NO_FIT if text in tracing and tracing < {*orders} else 0.0),
        )
        for text, (order, seldom) in orders.items()
        for h in _weighed(semantics, tensors[text], expected, reference)
    ]
    return hypotheses or unsettled(semantics, "it is zero in every molecule that was looked at")


def _weighed(
    semantics: str,
    tensors: Float[np.ndarray, "molecule 3 3"],
    expected: Float[np.ndarray, "molecule 3 3"],
    reference: Reference,
) -> list[Hypothesis]:
    """Weighs units and conventions of tensors whose components are in order."""
    size = np.linalg.norm(tensors)
    skew = float(np.linalg.norm(tensors - tensors.transpose(0, 2, 1)) / size)
    trace = _trace(tensors)
    given = traceless(tensors)
    ratio, alignment = line(given, expected)
    spread, wide = _MONOPOLES * reference.spread, 2.0
    if reference.is_sharp:
        spread, wide = math.hypot(_SPREAD, _OF_RESIDUAL * float(np.median(reference.residual))), 1.0
    misfit = deviation(abs(alignment), 1.0, _ALIGNMENT_SPREAD * wide)
    misfit += deviation(skew, 0.0, _ROUNDING)
    conventions = {"": 1.0}
    if trace < _ROUNDING:
        conventions["as Buckingham's 3/2 of the traceless tensor "] = _BUCKINGHAM
    if not math.isfinite(ratio) or not ratio:
        return []
    best = math.copysign(1, ratio) * min(
        (scale * factor for scale in conventions.values() for factor in _FACTORS),
        key=lambda factor: abs(math.log(factor / abs(ratio))),
    )
    moved = _moved(best * given, expected, reference)
    if moved:
        misfit += 2 * NO_FIT
    evidence = curve(ratio, spread, broad=reference.broad[0], broad_sigma=reference.broad[1])
    return [
        replace(h, prior=h.prior + (_SELDOM if convention else 0.0))
        for convention, scale in conventions.items()
        for h in weigh(
            semantics,
            [evidence],
            lambda factor, convention=convention: (  # type: ignore[misc]
                f"{convention}it is {factor / ratio:.3g} times that of {reference.origin} "
                f"(correlation {math.copysign(1, factor) * alignment:.2f}){moved}"
            ),
            extra=misfit,
            scale=scale,
        )
    ]


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
