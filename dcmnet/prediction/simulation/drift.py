"""What it costs that charges fixed in local frames do not follow the network as a molecule moves.

The network is the judge: the ESP of the charges that it predicts at one geometry, taken along in
their frames, against that of the charges which it predicts at the other.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

import numpy as np
from jaxtyping import Bool, Float
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial.transform import Rotation

from dcmnet.model.molecule import Structure
from dcmnet.prediction.predict import Predictor
from dcmnet.prediction.simulation.conformers import (
    check_conformers,
    check_frames,
    esp_rmse,
    predicted_target,
)
from dcmnet.prediction.simulation.frames import MIN_SINE, bonds
from dcmnet.prediction.simulation.sites import virtual_sites
from store_schema.problems import SourceError
from store_schema.units import HARTREE_IN_KCAL_PER_MOL

# Steps away from the geometry: of bonds in Å, of angles and of torsions in degrees.
STRETCHES: Final = (-0.05, 0.05)
BENDS: Final = (-10.0, -5.0, 5.0, 10.0)
TURNS: Final = (-120.0, -60.0, -30.0, 30.0, 60.0, 120.0, 180.0)
# Geometries are left out where atoms come nearer than this, in Å, unless they were nearer than
# that part more before.
_CRASH: Final = 1.6
_CRASH_SHARE: Final = 0.9


class Distortion(NamedTuple):
    """A geometry, and how it came from another one.

    Attributes:
        kind: As in `Moved`, and so are ``by`` and ``atoms``.
        by: How far.
        atoms: Atoms that say where.
        structure: The geometry.
    """

    kind: str
    by: float
    atoms: tuple[int, ...]
    structure: Structure


@dataclass(frozen=True)
class Moved:
    """A geometry away from the one that charges were predicted for.

    Attributes:
        kind: ``stretch``, ``bend``, ``turn``, or ``frame`` of a trajectory.
        by: How far: Å of a bond, degrees of an angle, the number of a frame.
        atoms: Atoms that say where, from 0; none of a frame.
        rmse: ESP RMSE of the charges in their frames against the network's, kcal/mol/e.
        size: RMS of the network's ESP there, kcal/mol/e.
    """

    kind: str
    by: float
    atoms: tuple[int, ...]
    rmse: float
    size: float


def drift(predictor: Predictor, structure: Structure, others: Sequence[Structure]) -> list[Moved]:
    """Measures what charges fixed in frames lose away from their geometry.

    Args:
        predictor: The network.
        structure: Geometry that the charges are predicted for.
        others: Geometries of the same molecule, such as those of a trajectory. Where there are
            none, each bond is stretched, each angle bent and each bond turned about that does
            not close a ring, as far as atoms do not run into each other.

    Raises:
        SourceError: A geometry cannot be predicted, they are not of one molecule, or it has no
            frames or nothing that could be moved.
    """
    check_conformers([structure, *others])
    moved = [Distortion("frame", float(i), (), each) for i, each in enumerate(others, start=1)]
    moved = moved or list(distorted(structure))
    if not moved:
        raise SourceError.of(
            structure.place,
            wrong="no bond, angle or torsion of this molecule can be stretched, bent or turned",
            consequence="nothing was measured",
            remedy="Give frames of its trajectory, the first one first",
        )
    first, *there = predictor.predict([structure, *(each.structure for each in moved)])
    sites = virtual_sites(first)
    found = []
    for one, predicted in zip(moved, there, strict=True):
        check_frames(sites, predicted.structure)
        target = predicted_target(predicted)
        error = esp_rmse(sites, predicted.structure.positions, target)
        size = float(np.sqrt(np.mean(target.esp**2)) * HARTREE_IN_KCAL_PER_MOL)
        found.append(Moved(one.kind, one.by, one.atoms, error, size))
    return found


def distorted(structure: Structure) -> Iterator[Distortion]:
    """Yields geometries with one bond longer or shorter, one angle or one torsion changed.

    Of each bond that is in no ring, the smaller part of the molecule moves as a whole.
    """
    numbers, positions = structure.atomic_numbers, structure.positions
    pairs = bonds(numbers, positions)
    for first, second in pairs:
        part = _moving_part(pairs, len(numbers), first, second)
        if part is None:
            continue
        moving, (still, end) = part
        axis = positions[end] - positions[still]
        axis = axis / np.linalg.norm(axis)
        for by in STRETCHES:
            start = Distortion("stretch", by, (still, end), structure)
            yield from _moved(start, moving, by * axis)
        for other in _neighbours(pairs, still):
            if other != end:
                yield from _bent(structure, moving, (other, still, end))
        turns = moving.sum() > 1 and len(_neighbours(pairs, still)) > 1
        if turns and not _is_linear(structure, pairs, still, end):
            for by in TURNS:
                start = Distortion("turn", by, (still, end), structure)
                yield from _moved(start, moving, Rotation.from_rotvec(np.radians(by) * axis))


def _bent(
    structure: Structure,
    moving: Bool[np.ndarray, " a"],
    angle: tuple[int, int, int],
) -> Iterator[Distortion]:
    other, middle, end = (structure.positions[atom] for atom in angle)
    normal = np.cross(other - middle, end - middle)
    size = np.linalg.norm(normal)
    if size > MIN_SINE * np.linalg.norm(other - middle) * np.linalg.norm(end - middle):
        for by in BENDS:
            turn = Rotation.from_rotvec(np.radians(by) * normal / size)
            yield from _moved(Distortion("bend", by, angle, structure), moving, turn)


def _moved(
    start: Distortion, moving: Bool[np.ndarray, " a"], move: Rotation | Float[np.ndarray, " 3"]
) -> Iterator[Distortion]:
    """Yields the geometry after a move if no atoms run into each other in it."""
    before = start.structure.positions.astype(np.float64)
    after, hinge = before.copy(), before[start.atoms[-2]]
    if isinstance(move, Rotation):
        after[moving] = move.apply(before[moving] - hinge) + hinge
    else:
        after[moving] += move
    was, now = (_distances(each)[moving][:, ~moving] for each in (before, after))
    if (now > np.minimum(_CRASH_SHARE * was, _CRASH)).all():
        name = f"{start.structure.name}, {start.kind} {start.by:+g}"
        moved = replace(start.structure, positions=after, name=name, place=name)
        yield start._replace(structure=moved)


def _distances(positions: Float[np.ndarray, "a 3"]) -> Float[np.ndarray, "a a"]:
    return np.asarray(np.linalg.norm(positions[:, None] - positions, axis=-1))


def _moving_part(
    pairs: Sequence[tuple[int, int]], n_atoms: int, first: int, second: int
) -> tuple[Bool[np.ndarray, " a"], tuple[int, int]] | None:
    """Returns the smaller part behind a bond, and the bond towards it; None in a ring."""
    kept = [pair for pair in pairs if pair != (first, second)]
    rows, columns = np.array(kept, np.int64).reshape(-1, 2).T
    graph = coo_array((np.ones(len(kept)), (rows, columns)), (n_atoms, n_atoms))
    _, part = connected_components(graph, directed=False)
    if part[first] == part[second]:
        return None
    ends = (first, second)
    if np.sum(part == part[second]) > np.sum(part == part[first]):
        ends = (second, first)
    return part == part[ends[1]], ends


def _neighbours(pairs: Sequence[tuple[int, int]], atom: int) -> list[int]:
    return [a if b == atom else b for a, b in pairs if atom in (a, b)]


def _is_linear(
    structure: Structure, pairs: Sequence[tuple[int, int]], still: int, end: int
) -> bool:
    """Says whether all that turns, or all that does not, lies on the axis of a bond."""
    positions = structure.positions
    axis = positions[end] - positions[still]
    for atom, across in ((still, end), (end, still)):
        arms = [positions[n] - positions[atom] for n in _neighbours(pairs, atom) if n != across]
        crosses = [np.linalg.norm(np.cross(arm, axis)) / np.linalg.norm(arm) for arm in arms]
        if max(crosses, default=0.0) < MIN_SINE * np.linalg.norm(axis):
            return True
    return False
