"""Energies and forces of molecules by springs: geometries that move, with exact derivatives."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import xarray as xr

# Stretching force constants in hartree/Å² of bonds to hydrogen, by the other atom, and of others.
STRETCH = {6: 1.25, 7: 1.72, 8: 2.2, 16: 0.95, 9: 2.2, 17: 1.2}
OTHER, BEND = 1.4, 0.12
RADII = {1: 0.31, 6: 0.76, 7: 0.71, 8: 0.66, 9: 0.57, 16: 1.05, 17: 1.02}


@dataclass(frozen=True)
class Sample:
    """Geometries in Å, with energies above the minimum in hartree, and forces."""

    numbers: np.ndarray
    positions: np.ndarray
    energies: np.ndarray
    forces: np.ndarray


@dataclass(frozen=True)
class Surface:
    """Springs between atoms.

    Attributes:
        numbers: Atomic numbers.
        positions: Geometry at the minimum, Å.
        pairs: Atoms that a spring connects.
        lengths: Lengths at rest, Å.
        constants: Force constants, hartree/Å².
    """

    numbers: np.ndarray
    positions: np.ndarray
    pairs: np.ndarray
    lengths: np.ndarray
    constants: np.ndarray

    @classmethod
    def random(cls, records: xr.Dataset, rng: np.random.Generator) -> Surface:
        """Takes a molecule of the records that has bonds to hydrogen, at its geometry."""
        size = records.n_atoms.to_numpy()
        numbers = records.atomic_numbers.to_numpy()
        pool = np.flatnonzero((size > 4) & ((numbers == 1).sum(axis=1) > 2))
        row = int(rng.choice(pool))
        z = numbers[row, : size[row]].astype(int)
        x = records.positions.to_numpy()[row, : size[row]].astype(np.float64)
        radii = np.array([RADII[number] for number in z])
        apart = np.linalg.norm(x[:, None] - x[None], axis=-1)
        bonded = (apart < 1.25 * (radii[:, None] + radii[None])) & ~np.eye(len(z), dtype=bool)
        second = (
            (bonded.astype(int) @ bonded.astype(int) > 0) & ~bonded & ~np.eye(len(z), dtype=bool)
        )
        level = float(rng.normal(1.0, 0.05))  # of theory
        pairs, lengths, constants = [], [], []
        for i, j in zip(*np.triu_indices(len(z), 1), strict=True):
            if not (bonded[i, j] or second[i, j]):
                continue
            pairs.append((i, j))
            lengths.append(apart[i, j])
            heavy, light = (i, j) if z[i] >= z[j] else (j, i)
            constant = OTHER if bonded[i, j] else BEND
            if bonded[i, j] and z[light] == 1:
                # All springs of a hydrogen together pull it along its bond by the usual constant.
                to = (x - x[light]) / np.where(apart[light], apart[light], 1.0)[:, None]
                along = to @ to[heavy]
                constant = STRETCH.get(int(z[heavy]), OTHER)
                constant -= BEND * float((along**2)[second[light]].sum())
            constants.append(level * constant)
        return cls(z, x, np.array(pairs), np.array(lengths), np.array(constants))

    @classmethod
    def diatomic(cls, rng: np.random.Generator) -> Surface:
        """Takes HF, OH or HCl."""
        heavy, length = ((9, 0.92), (8, 0.97), (17, 1.28))[rng.integers(3)]
        positions = np.array([[0.0, 0, 0], [0, 0, length]])
        constant = np.array([STRETCH[heavy]])
        return cls(
            np.array([heavy, 1]), positions, np.array([[0, 1]]), np.array([length]), constant
        )

    def evaluate(self, positions: np.ndarray) -> Sample:
        """Energies and forces of geometries."""
        i, j = self.pairs.T
        along = positions[:, i] - positions[:, j]
        apart = np.linalg.norm(along, axis=-1)
        stretched = apart - self.lengths
        energies = 0.5 * (self.constants * stretched**2).sum(axis=1)
        pull = (self.constants * stretched / apart)[..., None] * along
        forces = np.zeros_like(positions)
        for pair, (a, b) in enumerate(self.pairs):
            forces[:, a] -= pull[:, pair]
            forces[:, b] += pull[:, pair]
        numbers = np.broadcast_to(self.numbers, (len(positions), len(self.numbers)))
        return Sample(numbers, positions, energies, forces)

    def along(self, lengths: np.ndarray) -> Sample:
        """A diatomic at some lengths, by a Morse curve that dissociates."""
        (rest,), (constant,) = self.lengths, self.constants
        depth = 0.2
        alpha = np.sqrt(constant / (2 * depth))
        decay = np.exp(-alpha * (lengths - rest))
        energies = depth * (1 - decay) ** 2
        slope = 2 * depth * alpha * (1 - decay) * decay
        positions = np.zeros((len(lengths), 2, 3))
        positions[:, 1, 2] = lengths
        forces = np.zeros_like(positions)
        forces[:, 1, 2], forces[:, 0, 2] = -slope, slope
        numbers = np.broadcast_to(self.numbers, (len(lengths), 2))
        return Sample(numbers, positions, energies, forces)

    @classmethod
    def pair(cls, records: xr.Dataset, rng: np.random.Generator) -> Sample:
        """Two rigid copies of a molecule at ten distances, with a Lennard-Jones energy."""
        one = cls.random(records, rng)
        width = np.ptp(one.positions, axis=0).max()
        distances = width + np.linspace(2.6, 5.0, 10)
        first = np.broadcast_to(one.positions, (len(distances), *one.positions.shape))
        second = first + distances[:, None, None] * np.array([1.0, 0, 0])
        depth, rest = 0.008, width + 3.2
        ratio = rest / distances
        energies = depth * (ratio**12 - 2 * ratio**6)
        slope = depth * (-12 * ratio**12 + 12 * ratio**6) / distances
        forces = np.zeros((len(distances), 2 * len(one.numbers), 3))
        n = len(one.numbers)
        forces[:, :n, 0] = slope[:, None] / n
        forces[:, n:, 0] = -slope[:, None] / n
        numbers = np.broadcast_to(np.tile(one.numbers, 2), (len(distances), 2 * n))
        return Sample(numbers, np.concatenate([first, second], axis=1), energies, forces)


def sampled(surface: Surface, rng: np.random.Generator, n: int, minima: bool) -> Sample:
    """Geometries around the minimum, or turned copies of it with next to no force."""
    shape = (n, *surface.positions.shape)
    if not minima:
        size = rng.uniform(0.02, 0.06)
        return surface.evaluate(surface.positions + rng.normal(scale=size, size=shape))
    return surface.evaluate(surface.positions + rng.normal(scale=2e-4, size=shape))
