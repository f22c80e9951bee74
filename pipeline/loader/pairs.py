"""Pairs of atoms within the cutoff, found batch by batch and never stored.

Distances are compared in single precision, the precision of the positions and
of the model, whose cutoff function is zero there. All atoms against all is
fastest for small molecules; beyond them a k-d tree keeps memory and time
proportional to the atoms.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float, Float32, Int, Int32, Int64
from scipy.spatial import cKDTree

from pipeline.compiled import compiled

# Measured: from about this size the tree is faster than all atoms against all.
_DENSE_ATOMS = 1000


def find_pairs(
    positions: Float32[np.ndarray, "B A 3"], atom_mask: Bool[np.ndarray, "B A"], cutoff: float
) -> tuple[Int[np.ndarray, " P"], Int[np.ndarray, " P"]]:
    """Finds the ordered pairs of different atoms of one molecule that are closer than the cutoff.

    Args:
        positions: Nuclear positions in Å, finite at padding.
        atom_mask: True for atoms.
        cutoff: Distance in Å.

    Returns:
        Receiving and sending atoms as indices into the B·A atoms of the batch, in
        ascending order of the receiving, then the sending atom.
    """
    B, A = atom_mask.shape
    if A > _DENSE_ATOMS:
        return _tree_pairs(positions, atom_mask, cutoff)
    # Room for all pairs there could be; memory that nothing is written to costs nothing.
    dst, src = np.empty((2, B * A * A), np.int32)
    n = _dense_pairs(positions, atom_mask, np.float32(cutoff) ** 2, dst, src)
    return dst[:n], src[:n]


def count_pairs(
    positions: Float32[np.ndarray, "B A 3"], atom_mask: Bool[np.ndarray, "B A"], cutoff: float
) -> Int64[np.ndarray, " B"]:
    """Counts the pairs that `find_pairs` finds in each molecule.

    Args:
        positions: Nuclear positions in Å, finite at padding.
        atom_mask: True for atoms.
        cutoff: Distance in Å.
    """
    B, A = atom_mask.shape
    if A > _DENSE_ATOMS:
        dst, _ = _tree_pairs(positions, atom_mask, cutoff)
        return np.bincount(dst // A, minlength=B).astype(np.int64)
    counts = np.empty(B, np.int64)
    _dense_counts(positions, atom_mask, np.float32(cutoff) ** 2, counts)
    return counts


def pad_pairs(
    dst: Int[np.ndarray, " P"], src: Int[np.ndarray, " P"], capacity: int, last_atom: int
) -> tuple[Int32[np.ndarray, " C"], Int32[np.ndarray, " C"], Bool[np.ndarray, " C"]]:
    """Fills pairs up to the capacity with masked ones of the last atom slot with itself.

    Args:
        dst: Receiving atoms, ascending.
        src: Sending atoms.
        capacity: Length of the result.
        last_atom: Index of the last atom slot of the batch, which keeps `dst` ascending.

    Returns:
        Receiving atoms, sending atoms and the mask, each of length `capacity`.

    Raises:
        ValueError: There are more pairs than the capacity; none is ever dropped.
    """
    n = len(dst)
    if n > capacity:
        raise ValueError(f"{n} pairs do not fit into a capacity of {capacity}")
    padded_dst = np.full(capacity, last_atom, np.int32)
    padded_src = np.full(capacity, last_atom, np.int32)
    mask = np.zeros(capacity, bool)
    padded_dst[:n], padded_src[:n], mask[:n] = dst, src, True
    return padded_dst, padded_src, mask


@compiled
def _dense_pairs(
    positions: Float32[np.ndarray, "B A 3"],
    atom_mask: Bool[np.ndarray, "B A"],
    cutoff2: np.float32,
    dst: Int32[np.ndarray, " room"],
    src: Int32[np.ndarray, " room"],
) -> int:
    """Writes the pairs of all atoms against all; returns how many there are."""
    B, A = atom_mask.shape
    x, y, z = np.empty(A, np.float32), np.empty(A, np.float32), np.empty(A, np.float32)
    squared = np.empty(A, np.float32)
    n = 0
    for b in range(B):
        _set_components(positions[b], atom_mask[b], x, y, z)
        for i in range(A):
            xi, yi, zi = x[i], y[i], z[i]
            for j in range(A):
                dx, dy, dz = xi - x[j], yi - y[j], zi - z[j]
                squared[j] = dx * dx + dy * dy + dz * dz
            squared[i] = np.inf
            for j in range(A):
                # Written in any case and kept if close: faster than to branch.
                dst[n] = b * A + i
                src[n] = b * A + j
                n += squared[j] < cutoff2
    return n


@compiled
def _dense_counts(
    positions: Float32[np.ndarray, "B A 3"],
    atom_mask: Bool[np.ndarray, "B A"],
    cutoff2: np.float32,
    counts: Int64[np.ndarray, " B"],
) -> None:
    """Counts the pairs of all atoms against all."""
    B, A = atom_mask.shape
    x, y, z = np.empty((3, A), np.float32)
    for b in range(B):
        _set_components(positions[b], atom_mask[b], x, y, z)
        n = 0
        for i in range(A):
            xi, yi, zi = x[i], y[i], z[i]
            for j in range(A):
                dx, dy, dz = xi - x[j], yi - y[j], zi - z[j]
                n += dx * dx + dy * dy + dz * dz < cutoff2
            dx, dy, dz = xi - xi, yi - yi, zi - zi
            n -= dx * dx + dy * dy + dz * dz < cutoff2  # itself, unless it has no place
        counts[b] = n


@compiled
def _set_components(
    positions: Float32[np.ndarray, "A 3"],
    atom_mask: Bool[np.ndarray, " A"],
    x: Float32[np.ndarray, " A"],
    y: Float32[np.ndarray, " A"],
    z: Float32[np.ndarray, " A"],
) -> None:
    """Writes the positions by component; NaN at padding, as no comparison with NaN is true."""
    for i in range(len(x)):
        x[i] = positions[i, 0] if atom_mask[i] else np.nan
        y[i], z[i] = positions[i, 1], positions[i, 2]


def _tree_pairs(
    positions: Float32[np.ndarray, "B A 3"], atom_mask: Bool[np.ndarray, "B A"], cutoff: float
) -> tuple[Int[np.ndarray, " P"], Int[np.ndarray, " P"]]:
    """Finds pairs with a k-d tree a molecule; the same pairs as all against all."""
    _, A = atom_mask.shape
    both: list[Int[np.ndarray, "2 P"]] = []
    for molecule, (xyz, mask) in enumerate(zip(positions, atom_mask, strict=True)):
        atoms = np.flatnonzero(mask)
        # The tree works in double precision: a slightly larger radius admits every
        # candidate, and the single-precision distance decides.
        tree = cKDTree(xyz[atoms])
        pairs = tree.query_pairs(float(cutoff) * (1 + 1e-5) + 1e-5, output_type="ndarray")
        first, second = atoms[pairs[:, 0]], atoms[pairs[:, 1]]
        close = _squared_distance(xyz[first], xyz[second]) < np.float32(cutoff) ** 2
        first, second = first[close], second[close]
        dst, src = np.concatenate([first, second]), np.concatenate([second, first])
        order = np.lexsort((src, dst))
        both.append(np.stack([dst[order], src[order]]) + molecule * A)
    dst, src = np.concatenate(both, axis=1) if both else np.zeros((2, 0), np.int64)
    return dst, src


def _squared_distance(
    a: Float[np.ndarray, "P 3"], b: Float[np.ndarray, "P 3"]
) -> Float[np.ndarray, " P"]:
    """Sums in the order of the dense comparison, so that both round alike."""
    x, y, z = np.square(a - b).T
    return x + y + z
