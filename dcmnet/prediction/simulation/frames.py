"""Local frames: which three atoms turn with each atom, and the axes that they span.

Distributed charges move with their molecule. In a simulation they are fixed in frames
of three atoms A, B, C, as in CHARMM's DCM module: z along a bond, y perpendicular to
the plane of both bonds.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from ase.data import covalent_radii
from jaxtyping import Bool, Float, Int

# Three atoms are on a line where the sine of their angle is below this, 6 degrees.
MIN_SINE = 0.1
# Of the sum of covalent radii; atoms that are nearer are bonded.
_BOND = 1.25


class Frame(NamedTuple):
    """Three atoms that are not on a line; the bonds go from the second to the others.

    Attributes:
        atoms: Their indices A, B, C.
        owners: Those of them whose charges are fixed in this frame.
    """

    atoms: tuple[int, int, int]
    owners: frozenset[int]


def bonds(
    numbers: Int[np.ndarray, " a"], positions: Float[np.ndarray, "a 3"]
) -> list[tuple[int, int]]:
    """Returns pairs of atoms that are as near as covalent bonds are."""
    first, second = np.nonzero(np.triu(_scaled_distances(numbers, positions) < _BOND, 1))
    return list(zip(first.tolist(), second.tolist(), strict=True))


def choose_frames(
    numbers: Int[np.ndarray, " a"], positions: Float[np.ndarray, "a 3"]
) -> list[Frame]:
    """Returns frames that hold every atom, each atom in the first one that has it.

    Of all frames with an atom the one with the shortest bonds is taken, in units of
    covalent radii, among those whose atoms are not on a line.

    Args:
        numbers: Atomic numbers.
        positions: Nuclear positions, angstrom.

    Returns:
        The frames; none where there are two atoms or fewer, or all are on one line.
    """
    scaled = _scaled_distances(numbers, positions)
    held: set[int] = set()
    frames = []
    for atom in range(len(numbers)):
        if atom not in held:
            atoms = _best_frame(atom, scaled, positions)
            if atoms is None:
                return []
            frames.append(Frame(atoms, frozenset(set(atoms) - held)))
            held |= set(atoms)
    return frames


def local_axes(
    frame: tuple[int, int, int], atom: int, positions: Float[np.ndarray, "a 3"]
) -> Float[np.ndarray, "3 3"]:
    """Returns the axes x, y, z of one atom of a frame, as rows.

    z is along A - B for A and B, and along C - B for C; y along (A - B) x (C - B);
    x = z x y. That is how CHARMM's DCM module has them, "BO" in its files; the frame is
    left-handed (Devereux et al., J. Chem. Theory Comput. 10, 4229 (2014)).
    """
    a, b, c = (positions[index] for index in frame)
    first, second = _unit(a - b), _unit(c - b)
    y = _unit(np.cross(first, second))
    z = second if atom == frame[2] else first
    return np.stack([np.cross(z, y), y, z])


def _unit(vector: Float[np.ndarray, " 3"]) -> Float[np.ndarray, " 3"]:
    return np.asarray(vector / np.linalg.norm(vector))


def _scaled_distances(
    numbers: Int[np.ndarray, " a"], positions: Float[np.ndarray, "a 3"]
) -> Float[np.ndarray, "a a"]:
    """Returns distances over sums of covalent radii."""
    radii = covalent_radii[numbers]
    distances = np.linalg.norm(positions[:, None] - positions, axis=-1)
    return np.asarray(distances / (radii[:, None] + radii))


def _best_frame(
    atom: int, scaled: Float[np.ndarray, "a a"], positions: Float[np.ndarray, "a 3"]
) -> tuple[int, int, int] | None:
    """Returns A, B, C with the shortest bonds, where the atom is in the middle or an end."""
    others = np.arange(len(positions)) != atom
    pairs = others[:, None] & others & ~np.eye(len(positions), dtype=bool)
    from_atom = positions - positions[atom]
    between = positions - positions[:, None]
    # [j, k]: the atom between j and k, or at the end of atom - j - k.
    middle = _cost(scaled[atom][:, None] + scaled[atom], from_atom[:, None], from_atom[None], pairs)
    end = _cost(scaled[atom][:, None] + scaled, -from_atom[:, None], between, pairs)
    if not np.isfinite(min(middle.min(), end.min())):
        return None
    if middle.min() <= end.min():
        j, k = np.unravel_index(middle.argmin(), middle.shape)
        return int(j), atom, int(k)
    j, k = np.unravel_index(end.argmin(), end.shape)
    return atom, int(j), int(k)


def _cost(
    lengths: Float[np.ndarray, "a a"],
    first: Float[np.ndarray, "..."],
    second: Float[np.ndarray, "..."],
    allowed: Bool[np.ndarray, "a a"],
) -> Float[np.ndarray, "a a"]:
    """Returns summed bond lengths, infinite where the bonds are on a line."""
    cross = np.linalg.norm(np.cross(first, second), axis=-1)
    product = np.linalg.norm(first, axis=-1) * np.linalg.norm(second, axis=-1)
    bent = cross > MIN_SINE * product
    return np.where(allowed & bent, lengths, np.inf)
