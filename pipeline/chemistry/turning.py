"""Net forces and torques on molecules, which are 0 where a molecule stands alone."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from pipeline.chemistry.arrays import Atoms


class Total(NamedTuple):
    """A sum over the atoms of each molecule.

    Attributes:
        size: Its length.
        share: The same over the sum of the lengths; 0 where all are 0.
    """

    size: Float[np.ndarray, " molecule"]
    share: Float[np.ndarray, " molecule"]


def net_and_turning(
    atoms: Atoms, forces: Float[np.ndarray, "molecule atom 3"]
) -> tuple[Total, Total]:
    """Returns net forces, and torques about the mean position of the atoms.

    Args:
        atoms: Atoms, in Å.
        forces: In any unit; NaN counts as 0.
    """
    there = atoms.mask & np.isfinite(forces).all(axis=-1)
    there &= np.isfinite(atoms.positions).all(axis=-1)
    positions = np.where(there[..., None], atoms.positions, 0.0)
    centers = positions.sum(axis=1) / np.maximum(there.sum(axis=1), 1)[:, None]
    arms = np.where(there[..., None], positions - centers[:, None], 0.0)
    pulls = np.where(there[..., None], forces, 0.0).astype(np.float64)
    lengths = np.linalg.norm(pulls, axis=-1)
    return (
        _total(pulls, lengths),
        _total(np.cross(arms, pulls), np.linalg.norm(arms, axis=-1) * lengths),
    )


def _total(
    vectors: Float[np.ndarray, "molecule atom 3"], lengths: Float[np.ndarray, "molecule atom"]
) -> Total:
    size, all_of_them = np.linalg.norm(vectors.sum(axis=1), axis=-1), lengths.sum(axis=1)
    share = np.divide(size, all_of_them, out=np.zeros_like(size), where=all_of_them > 0)
    return Total(size, share)
