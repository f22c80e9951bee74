"""Random changes of a batch that leave its physics alone: fewer points, other orientations."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float32, Int, Int64

from pipeline.loader.batch import MoleculeBatch


def choose_points(
    n_grid: Int[np.ndarray, " n"], K: int, width: int, rng: np.random.Generator
) -> Int64[np.ndarray, "n width"]:
    """Chooses K different grid points of each molecule, each point equally likely.

    The points are cut into K runs as even as integers allow, one point is drawn from
    each, and all are turned by a random offset. The turn makes the chance of every
    point exactly K/n, so that a mean over the chosen points is an unbiased estimate of
    the mean over all; the runs spread them over the surface, which lowers its variance.

    Args:
        n_grid: Grid points of each molecule.
        K: Points to choose; a molecule of fewer keeps all.
        width: Length of the result, at least that of the longest choice.
        rng: Source of chance.

    Returns:
        Points of each molecule, -1 behind the last.
    """
    n = np.asarray(n_grid, np.int64)[:, None]
    chosen = np.minimum(n, K)
    run = np.arange(width)
    ends = (run + 1) * n // np.maximum(chosen, 1)
    starts = run * n // np.maximum(chosen, 1)
    drawn = starts + (rng.random(starts.shape) * (ends - starts)).astype(np.int64)
    offset = (rng.random(n.shape) * n).astype(np.int64)
    return np.where(run < chosen, (drawn + offset) % np.maximum(n, 1), -1)


def rotate(batch: MoleculeBatch, R: Float32[np.ndarray, "B 3 3"]) -> MoleculeBatch:
    """Turns every molecule about the origin, each by a rotation of its own.

    Pairs, charges and potentials stay; positions, grid, field, dipole and quadrupole turn.
    """
    R_transposed = R.transpose(0, 2, 1)
    return batch._replace(
        positions=batch.positions @ R_transposed,
        vdw_surface=batch.vdw_surface @ R_transposed,
        electric_field=batch.electric_field @ R_transposed,
        dipole=(batch.dipole[:, None, :] @ R_transposed)[:, 0],
        quadrupole=R @ batch.quadrupole @ R_transposed,
    )


def random_rotations(n: int, rng: np.random.Generator) -> Float32[np.ndarray, "n 3 3"]:
    """Draws rotation matrices uniformly, from unit quaternions.

    K. Shoemake, Uniform random rotations, Graphics Gems III (1992): four normal
    numbers, normalised, are a uniformly distributed unit quaternion.
    """
    q = rng.normal(size=(n, 4))
    w, x, y, z = (q / np.linalg.norm(q, axis=1, keepdims=True)).T
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    return np.array(rows, np.float32).transpose(2, 0, 1)
