"""Hydrogen-bonded dimers to calculate, relaxed with GFN2-xTB, as extended XYZ.

``python -m recipes.dimers dimers.xyz --count 400 --largest 4 --seed 1``
"""

from __future__ import annotations

import argparse
import os
import random
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

import ase
import numpy as np
from ase.calculators.calculator import CalculationFailed
from ase.io import write
from ase.neighborlist import natural_cutoffs, neighbor_list
from ase.optimize import LBFGS
from jaxtyping import Float, Int
from rdkit import Chem
from rich.progress import track
from scipy.spatial.transform import Rotation
from tblite.ase import TBLite

from pipeline.store.splits import assign
from pipeline.structures import read_structures
from recipes.held_out import is_held_out
from recipes.species import fragments, ions
from store_schema.problems import SourceError

_WATER: Final = "O"
# How often one of the two is water, and how often it is an ion.
_WITH_WATER: Final = 0.3
_WITH_ION: Final = 0.3
# Elements that give or take a hydrogen bond.
_BONDING: Final = (7, 8, 9, 16, 17)
# Å from hydrogen to acceptor, where a dimer starts and where it is no longer one.
_START: Final = 1.9
_LONGEST: Final = 2.6
# Å that the hydrogen bond of every other dimer is shortened or stretched by.
_STRETCHED: Final = (-0.1, 0.6)
_STEPS: Final = 40


def dimers(count: int, largest: int, split: str, seed: int) -> Iterator[ase.Atoms]:
    """Yields relaxed dimers, every other one with a shortened or stretched hydrogen bond.

    Args:
        count: How many.
        largest: Most heavy atoms of each molecule.
        split: "test" for dimers of molecules that are all in the ``test`` split of the other
            stores, "train" for dimers without any of these.
        seed: Which ones.
    """
    rng = random.Random(seed)
    neutral = _of_split(fragments(), largest, split)
    charged = _of_split(ions(fragments()), largest, split)
    seen: set[str] = set()
    while len(seen) < count:
        first = rng.choice(charged if rng.random() < _WITH_ION else neutral)
        with_water = split == "train" and rng.random() < _WITH_WATER
        second = _WATER if with_water else rng.choice(neutral)
        smiles = Chem.MolToSmiles(Chem.MolFromSmiles(f"{first}.{second}"))
        if smiles in seen or is_held_out(smiles):
            continue
        of_dimer = np.random.default_rng(rng.randrange(2**32))
        dimer = dimer_of(first, second, of_dimer, is_stretched=bool(len(seen) % 2))
        if dimer is not None:
            seen.add(smiles)
            dimer.info["name"] = f"{smiles}/0"
            yield dimer


def _of_split(every: Iterable[str], largest: int, split: str) -> list[str]:
    small = [one for one in every if Chem.MolFromSmiles(one).GetNumHeavyAtoms() <= largest]
    places = assign(small, (0.8, 0.1))
    wanted = (places == "test") == (split == "test")
    return [one for one, is_wanted in zip(small, wanted, strict=True) if is_wanted]


def dimer_of(
    first: str, second: str, rng: np.random.Generator, *, is_stretched: bool
) -> ase.Atoms | None:
    """Returns a hydrogen-bonded dimer of two SMILES, or None where they do not make one."""
    try:
        donor, acceptor = (_geometry(one) for one in rng.permutation([first, second]))
    except (SourceError, ValueError):
        return None
    hydrogens, acceptors = _donated(donor), np.flatnonzero(np.isin(acceptor.numbers, _BONDING))
    if not len(hydrogens) or not len(acceptors):
        return None
    hydrogen, taker = rng.choice(hydrogens), rng.choice(acceptors)
    axis = _unit(donor.positions[hydrogen] - donor.positions[_bonded_to(donor, hydrogen)])
    outwards = _unit(acceptor.positions[taker] - acceptor.positions.mean(axis=0))
    turn, _ = Rotation.align_vectors(-axis[None], outwards[None])
    turn = Rotation.from_rotvec(axis * rng.uniform(0, 2 * np.pi)) * turn
    placed = turn.apply(acceptor.positions - acceptor.positions[taker])
    acceptor.positions = donor.positions[hydrogen] + _START * axis + placed
    charge = donor.info["charge"] + acceptor.info["charge"]
    dimer = _relaxed(donor + acceptor, charge)
    if dimer is None or dimer.get_distance(hydrogen, len(donor) + taker) > _LONGEST:
        return None
    bond = dimer.get_distance(hydrogen, len(donor) + taker, vector=True)
    dimer.positions[len(donor) :] += rng.uniform(*_STRETCHED) * is_stretched * _unit(bond)
    return dimer


def _geometry(smiles: str) -> ase.Atoms:
    (geometry,) = read_structures(smiles)
    return ase.Atoms(geometry.numbers, geometry.positions, info={"charge": geometry.charge or 0})


def _donated(molecule: ase.Atoms) -> Int[np.ndarray, " donor"]:
    """Hydrogens that a hydrogen bond may have."""
    hydrogens = np.flatnonzero(molecule.numbers == 1)
    bonded = [molecule.numbers[_bonded_to(molecule, int(one))] for one in hydrogens]
    return hydrogens[np.isin(bonded, _BONDING)]


def _bonded_to(molecule: ase.Atoms, atom: int) -> int:
    return int(np.argsort(molecule.get_distances(atom, range(len(molecule))))[1])


def _unit(vector: Float[np.ndarray, "3"]) -> Float[np.ndarray, "3"]:
    length = np.linalg.norm(vector)
    return vector / length if length > 0 else np.array([0.0, 0.0, 1.0])


def _relaxed(dimer: ase.Atoms, charge: int) -> ase.Atoms | None:
    """A dimer after some steps of relaxation, unless its molecules have reacted."""
    relaxed = ase.Atoms(dimer.numbers, dimer.positions, info={"charge": charge})
    relaxed.calc = TBLite(method="GFN2-xTB", charge=charge, verbosity=0)
    try:
        LBFGS(relaxed, logfile=os.devnull).run(fmax=0.02, steps=_STEPS)
    except CalculationFailed:
        return None
    relaxed.calc = None
    return relaxed if _bonds(relaxed) == _bonds(dimer) else None


def _bonds(molecule: ase.Atoms) -> set[tuple[int, int]]:
    return set(zip(*neighbor_list("ij", molecule, natural_cutoffs(molecule, 1.2)), strict=True))


def main() -> None:
    """Writes the dimers that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--count", type=int, required=True)
    parser.add_argument("--largest", type=int, default=4, help="heavy atoms of each molecule")
    parser.add_argument("--split", choices=("train", "test"), default="train")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    found = dimers(asked.count, asked.largest, asked.split, asked.seed)
    write(asked.out, list(track(found, "dimers", total=asked.count)), format="extxyz")


if __name__ == "__main__":
    main()
