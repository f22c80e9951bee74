"""Pairs of atoms within the cutoff, found batch by batch and never stored.

Distances are compared in single precision, the precision of the positions and
of the model, whose cutoff function is zero there. All atoms against all is
fastest for small molecules; beyond them a k-d tree keeps memory and time
proportional to the atoms.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from jaxtyping import Bool, Float, Float32, Int, Int32, Int64
from scipy.spatial import cKDTree

# Measured: from about this size the tree is faster than all atoms against all.
_DENSE_ATOMS = 200
# Elements of one all-against-all comparison: temporaries of 1 MB, which the cache holds.
_DENSE_ELEMENTS = 1 << 18


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
    _, A = atom_mask.shape
    if A > _DENSE_ATOMS:
        return _tree_pairs(positions, atom_mask, cutoff)
    # Row-major positions of the (B, A, A) comparison; numpy finds them several
    # times faster in one dimension than in three.
    slabs = [
        np.flatnonzero(close) + start * A * A
        for start, close in _dense(positions, atom_mask, cutoff)
    ]
    flat = np.concatenate(slabs) if len(slabs) > 1 else slabs[0]
    dst = flat // A
    return dst, flat - dst * A + dst // A * A


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
    counts = np.zeros(B, np.int64)
    for start, close in _dense(positions, atom_mask, cutoff):
        per_molecule = close.reshape(-1, A * A)
        counts[start : start + len(per_molecule)] = np.count_nonzero(per_molecule, axis=1)
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


def _dense(
    positions: Float32[np.ndarray, "B A 3"], atom_mask: Bool[np.ndarray, "B A"], cutoff: float
) -> Iterator[tuple[int, Bool[np.ndarray, "S A A"]]]:
    """Yields slabs of molecules as (first molecule, which atoms are close to which)."""
    B, A = atom_mask.shape
    step = max(1, _DENSE_ELEMENTS // max(1, A * A))
    for start in range(0, max(B, 1), step):
        slab = slice(start, start + step)
        # Molecules last, so that numpy's inner loops are as long as there are molecules;
        # padding is NaN, and no comparison with NaN is true.
        components = np.array(positions[slab].transpose(2, 1, 0), order="C")
        np.copyto(components, np.nan, where=~atom_mask[slab].T)
        x, y, z = components
        squared = x[:, None] - x[None]
        np.square(squared, out=squared)
        difference = np.empty_like(squared)
        for component in (y, z):
            np.subtract(component[:, None], component[None], out=difference)
            squared += np.square(difference, out=difference)
        close = np.array((squared < np.float32(cutoff) ** 2).transpose(2, 0, 1), order="C")
        close.reshape(-1, A * A)[:, :: A + 1] = False
        yield start, close


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
