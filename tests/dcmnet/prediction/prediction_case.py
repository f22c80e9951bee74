"""Small models with random parameters, and molecules, that the tests of predictions share."""

import functools
import itertools
from dataclasses import replace

import ase.io
import numpy as np
from ase.build import molecule as g2_molecule
from ase.data import covalent_radii
from scipy.spatial.distance import pdist

from dcmnet.model.domain import Domain
from dcmnet.model.molecule import Structure
from dcmnet.model.trained import TrainedModel
from tests.molecules import ELEMENTS, SmallNetwork, random_molecule

BOHR = ase.units.Bohr
SEEN = frozenset(ELEMENTS)


@functools.cache
def model(n_dcm=2, elements=SEEN):
    """Returns a model whose charges and displacements are large: nothing hides in them."""
    small = SmallNetwork.make(seed=n_dcm, n_dcm=n_dcm)
    name = f"n{n_dcm}"
    domain = Domain(elements)
    return TrainedModel(small.config, small.params, "best", 1, name=name, domain=domain)


def structure(name="CH3OH", total_charge=0.0, **fields):
    """Returns a molecule of the G2 set."""
    atoms = g2_molecule(name)
    given = {"place": name, "name": name, "total_charge": total_charge, **fields}
    return Structure(
        atomic_numbers=atoms.numbers.astype(np.int64),
        positions=atoms.positions.astype(np.float64),
        **given,
    )


def structures(n, seed=0, most_atoms=12):
    """Returns molecules of many sizes and charges, of one atom and more, with bonds like theirs."""
    rng = np.random.default_rng(seed)
    found = [random_molecule(rng, int(rng.integers(1, most_atoms + 1)), 1) for _ in range(n)]
    return [
        Structure(
            place=f"molecule {i}",
            name=f"m{i}",
            atomic_numbers=m["atomic_numbers"].astype(np.int64),
            positions=_bonded(m["atomic_numbers"], m["positions"].astype(np.float64)),
            total_charge=m["total_charge"],
        )
        for i, m in enumerate(found)
    ]


def _bonded(numbers, positions):
    # The shortest bond is as long as the covalent radii say: others would be refused as in bohr.
    if len(numbers) < 2:
        return positions
    radii = covalent_radii[numbers]
    ratios = pdist(positions) / [a + b for a, b in itertools.combinations(radii, 2)]
    return positions / ratios.min()


def shaken(one, n, size=0.03, seed=0):
    """Returns geometries of a molecule, its atoms moved at random, the first as it is."""
    rng = np.random.default_rng(seed)
    moves = rng.normal(scale=size, size=(n - 1, *one.positions.shape))
    return [one, *(replace(one, positions=one.positions + move) for move in moves)]


def write_frames(path, some, with_charge=True):
    """Writes structures as frames of an extended XYZ file."""
    frames = []
    for s in some:
        atoms = ase.Atoms(numbers=s.atomic_numbers, positions=s.positions)
        atoms.info = {"name": s.name} | ({"charge": s.total_charge} if with_charge else {})
        frames.append(atoms)
    ase.io.write(path, frames, format="extxyz")
    return path


def points_around(positions, n=200, seed=0):
    """Returns points 2 to 5 Å outside a molecule."""
    rng = np.random.default_rng(seed)
    directions = rng.normal(size=(n, 3))
    directions /= np.linalg.norm(directions, axis=1)[:, None]
    centre = positions.mean(axis=0)
    reach = np.linalg.norm(positions - centre, axis=1).max()
    return centre + directions * (reach + rng.uniform(2, 5, n))[:, None]


def esp_of(charges, positions, points):
    """Returns the ESP of point charges in hartree/e, by a plain sum; NaN charges are none."""
    known = np.isfinite(charges)
    distance = np.linalg.norm(points[:, None] - positions[known], axis=-1) / BOHR
    return (charges[known] / distance).sum(axis=1)
