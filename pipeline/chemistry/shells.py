"""Points around molecules: shells of multiples of their van der Waals radii."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from jaxtyping import Float, Int

from pipeline.chemistry.radii import van_der_waals_radii

# Merz and Kollman's shells (U. C. Singh, P. A. Kollman, J. Comput. Chem. 5 (1984) 129).
SHELLS: Final = (1.4, 1.6, 1.8, 2.0)
# Points on the sphere of each atom, of which those inside other spheres go: enough that as many
# are left as are asked for.
_DENSITY: Final = 2.0


def shell_points(
    numbers: Int[np.ndarray, " atom"],
    positions: Float[np.ndarray, "atom 3"],
    n_points: int,
    rng: np.random.Generator,
    shells: Sequence[float] = SHELLS,
) -> Float[np.ndarray, "point 3"]:
    """Returns points spread over shells around a molecule.

    Each shell is the surface of the atoms' spheres together, at a multiple of their van der
    Waals radii. Points are spread evenly over all of its area.

    Args:
        numbers: Atomic numbers.
        positions: Positions in Å.
        n_points: Number of points.
        rng: Turns the spheres, and draws the points.
        shells: Multiples of the radii.

    Returns:
        The points in Å, by shells from the innermost.
    """
    radii = van_der_waals_radii(numbers)
    density = _DENSITY * n_points / max(1.0, float((radii**2).sum()) * len(shells))
    while True:
        found = [_surface(positions, scale * radii, density, rng) for scale in shells]
        if sum(map(len, found)) >= n_points:
            break
        density *= 2
    every = np.concatenate(found)
    chosen = np.sort(rng.choice(len(every), n_points, replace=False))
    return every[chosen]


def _surface(
    positions: Float[np.ndarray, "atom 3"],
    radii: Float[np.ndarray, " atom"],
    density: float,
    rng: np.random.Generator,
) -> Float[np.ndarray, "point 3"]:
    """Points of the atoms' spheres that lie in none of the others."""
    points = []
    for atom, (center, radius) in enumerate(zip(positions, radii, strict=True)):
        sphere = center + radius * _sphere(max(8, round(density * radius**2)), rng)
        distance = np.linalg.norm(sphere[:, None] - positions, axis=-1)
        distance[:, atom] = np.inf
        points.append(sphere[(distance >= radii).all(axis=1)])
    return np.concatenate(points)


def _sphere(n: int, rng: np.random.Generator) -> Float[np.ndarray, "point 3"]:
    """Points spread evenly over a sphere, turned at random."""
    turn, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    return spiral(n) @ turn


def spiral(n: int) -> Float[np.ndarray, "point 3"]:
    """Returns points spread evenly over the unit sphere, on Fibonacci's spiral."""
    index = np.arange(n) + 0.5
    height, angle = 1 - 2 * index / n, index * np.pi * (1 + np.sqrt(5))
    ring = np.sqrt(1 - height**2)
    return np.stack([ring * np.cos(angle), ring * np.sin(angle), height], axis=1)
