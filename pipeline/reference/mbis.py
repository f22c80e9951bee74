"""Minimal-basis iterative stockholder partition of a density into atoms.

T. Verstraelen, S. Vandenbrande, F. Heidar-Zadeh, L. Vanduyfhuys, V. Van Speybroeck, M. Waroquier,
P. W. Ayers, J. Chem. Theory Comput. 12 (2016) 3894. All lengths are in bohr.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Final, NamedTuple

import numpy as np
from jaxtyping import Float, Int
from scipy.optimize import NoConvergence, anderson

# Atomic numbers at which a shell is full, and what it then holds.
_NOBLE: Final = (2, 10, 18, 36)
_SHELL_SIZES: Final = (2, 8, 8, 18)
# Relative change of populations and widths of shells; charges are then converged to 1e-6.
_CONVERGED: Final = 1e-7
# Plain cycles at first, far from the end; then mixed ones, a fifth of the plain ones it takes.
_FIRST_CYCLES, _MIXED, _MOST_MIXED, _MOST_CYCLES = 8, 5, 100, 1000
# Points at which there is no density weigh nothing.
_VANISHING: Final = 1e-15


class AtomicMultipoles(NamedTuple):
    """Multipoles of atoms about their nuclei, in atomic units.

    Attributes:
        charges: Charges.
        dipoles: Dipoles.
        quadrupoles: Second moments of the charge, Σ q r r.
        octupoles: Third moments; None where a method has none.
    """

    charges: Float[np.ndarray, " atom"]
    dipoles: Float[np.ndarray, "atom 3"]
    quadrupoles: Float[np.ndarray, "atom 3 3"]
    octupoles: Float[np.ndarray, "atom 3 3 3"] | None = None


def mbis(
    numbers: Int[np.ndarray, " atom"],
    positions: Float[np.ndarray, "atom 3"],
    points: Float[np.ndarray, "point 3"],
    weights: Float[np.ndarray, " point"],
    density: Float[np.ndarray, " point"],
) -> AtomicMultipoles:
    """Divides an all-electron density among atoms.

    Args:
        numbers: Atomic numbers, krypton at most.
        positions: Positions.
        points: Points of integration.
        weights: Their weights.
        density: Electron density there.

    Returns:
        Charges, which sum to the nuclear charges less the integral of the density, and
        dipoles, quadrupoles and octupoles.

    Raises:
        ValueError: There is a heavier element, or the partition does not converge.
    """
    if (numbers > _NOBLE[-1]).any():
        raise ValueError(f"MBIS is for elements up to Kr, not Z = {numbers.max()}")
    keep = density > _VANISHING
    points, electrons = points[keep], (weights * density)[keep]
    offset = points[:, None] - positions
    distance = np.linalg.norm(offset, axis=-1)
    atom, populations, widths = _initial(numbers)
    partition = _Partition(distance[:, atom], electrons)
    shells = _fixed_point(partition.step, np.log(np.concatenate([populations, widths])))
    return _multipoles(numbers, atom, partition.shares(shells), offset)


class _Partition(NamedTuple):
    """A density that is divided among shells; of those, the logarithms of N and of s.

    Attributes:
        distance: Distance of each point from each shell's atom.
        electrons: Electrons at each point.
    """

    distance: Float[np.ndarray, "point shell"]
    electrons: Float[np.ndarray, " point"]

    def shares(self, shells: Float[np.ndarray, " unknown"]) -> Float[np.ndarray, "point shell"]:
        """Electrons at each point that belong to each shell, whose density is N exp(-r / s)."""
        populations, widths = np.split(np.exp(shells), 2)
        densities = populations / widths**3 * np.exp(self.distance / -widths)
        densities += np.finfo(float).tiny  # never all zero, however far away
        return densities * (self.electrons / densities.sum(axis=1))[:, None]

    def step(self, shells: Float[np.ndarray, " unknown"]) -> Float[np.ndarray, " unknown"]:
        """Makes the shells those of their shares: N = ∫ρ, s = ∫ρ r / 3N."""
        shares = self.shares(shells)
        populations = shares.sum(axis=0)
        widths = np.einsum("ps,ps->s", shares, self.distance) / (3 * populations)
        return np.log(np.concatenate([populations, widths]))


def _fixed_point(
    step: Callable[[np.ndarray], np.ndarray], start: Float[np.ndarray, " unknown"]
) -> Float[np.ndarray, " unknown"]:
    """Repeats a step until it changes nothing, by Anderson's mixing where that converges.

    Raises:
        ValueError: It does not come to an end.
    """
    for _ in range(_FIRST_CYCLES):
        start = step(start)
    with suppress(NoConvergence):
        found = anderson(
            lambda shells: step(shells) - shells,
            start,
            M=_MIXED,
            alpha=1.0,
            f_tol=_CONVERGED,
            line_search=None,
            maxiter=_MOST_MIXED,
        )
        return np.asarray(found)
    for _ in range(_MOST_CYCLES):
        before, start = start, step(start)
        if np.abs(start - before).max() < _CONVERGED:
            return start
    raise ValueError(f"the MBIS partition has not converged after {_MOST_CYCLES} cycles")


def _initial(numbers: Int[np.ndarray, " atom"]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Atom, population and width of each shell to begin with."""
    atoms, populations, widths = [], [], []
    for index, number in enumerate(numbers):
        n_shells = 1 + int(np.searchsorted(_NOBLE, number))
        inner = _SHELL_SIZES[: n_shells - 1]
        for shell, population in enumerate((*inner, number - sum(inner))):
            depth = shell / (n_shells - 1) if n_shells > 1 else 1.0
            atoms.append(index)
            populations.append(float(population))
            widths.append(0.5 / number ** (1 - depth))
    return np.array(atoms), np.array(populations), np.array(widths)


def _multipoles(
    numbers: Int[np.ndarray, " atom"],
    atom: Int[np.ndarray, " shell"],
    shares: Float[np.ndarray, "point shell"],
    offset: Float[np.ndarray, "point atom 3"],
) -> AtomicMultipoles:
    charges = numbers.astype(np.float64)
    dipoles, quadrupoles, octupoles = (np.zeros((len(numbers), *[3] * n)) for n in (1, 2, 3))
    for index in range(len(numbers)):
        electrons = shares[:, atom == index].sum(axis=1)
        charges[index] -= electrons.sum()
        r = offset[:, index]
        weighted = electrons[:, None] * r
        dipoles[index] = -weighted.sum(axis=0)
        quadrupoles[index] = -weighted.T @ r
        octupoles[index] = -np.einsum("pi,pj,pk->ijk", weighted, r, r, optimize=True)
    return AtomicMultipoles(charges, dipoles, quadrupoles, octupoles)
