"""Structures to calculate, as extended XYZ: QM9's geometries, fragments, and ions.

``python -m recipes.molecules broad.xyz --qm9 30000 --fragments 8000 --ions 10000``
"""

from __future__ import annotations

import argparse
import csv
import random
from collections.abc import Iterable, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import ase
import numpy as np
from ase.io import write
from rdkit import Chem, rdBase
from rdkit.Chem import Descriptors

from pipeline.structures import read_structures
from recipes.held_out import is_held_out, is_held_out_row
from recipes.species import fragments, heavier, ions
from store_schema.problems import SourceError

# Å by which every other geometry is displaced.
DISPLACED: Final = 0.05


def qm9_rows() -> Iterator[tuple[str, Sequence[str], np.ndarray]]:
    """Returns canonical SMILES, elements and positions (Å) of QM9 that are not held out."""
    rdBase.DisableLog("rdApp.*")
    spec = find_spec("qm9pack")
    if spec is None or spec.origin is None:
        raise SystemExit("qm9pack is not installed: pip install qm9pack")
    csv.field_size_limit(10**7)
    total = 0
    for part in sorted((Path(spec.origin).parent / "data").glob("qm9_part*.csv")):
        with part.open(newline="", encoding="utf-8") as file:
            for row, record in enumerate(csv.DictReader(file)):
                numbers = {row, total, int(record["Index"]), int(record["Index"]) - 1}
                total += 1
                molecule = Chem.MolFromSmiles(record["SMILES"])
                if molecule is None or any(map(is_held_out_row, numbers)):
                    continue
                smiles = Chem.MolToSmiles(molecule)
                if not is_held_out(smiles):
                    elements = record["Elements"].strip("[]").replace("'", "").split(",")
                    places = record["XYZ_Ang"].replace("[", "").replace("]", "").split(",")
                    yield smiles, elements, np.array(places, float).reshape(-1, 3)


def of_qm9(count: int, rng: random.Random) -> Iterator[ase.Atoms]:
    """Returns geometries of QM9, drawn at random."""
    rows = list(qm9_rows())
    for smiles, elements, positions in rng.sample(rows, min(count, len(rows))):
        yield _atoms(smiles, 0, elements, positions, 0)


def of_smiles(
    every: Iterable[str], count: int, largest: int, rng: random.Random
) -> Iterator[ase.Atoms]:
    """Returns geometries of SMILES of at most ``largest`` heavy atoms, from a force field."""
    drawn = list(every)
    rng.shuffle(drawn)
    done = 0
    for smiles in drawn:
        if done == count:
            return
        molecule = Chem.AddHs(Chem.MolFromSmiles(smiles))
        if molecule.GetNumHeavyAtoms() > largest or Descriptors.NumRadicalElectrons(molecule):
            continue
        try:
            (geometry,) = read_structures(smiles, 1, _pass_over)
        except (SourceError, ValueError):
            continue
        done += 1
        yield _atoms(smiles, done % 2, geometry.numbers, geometry.positions, geometry.charge or 0)


def _pass_over(_: SourceError) -> None:
    """A molecule without a geometry is one of many."""


def _atoms(
    smiles: str, displaced: int, elements: Sequence[str] | np.ndarray, positions: np.ndarray, q: int
) -> ase.Atoms:
    rng = np.random.default_rng(list(smiles.encode()))
    moved = positions + displaced * DISPLACED * rng.normal(size=positions.shape)
    return ase.Atoms(elements, moved, info={"name": f"{smiles}/{displaced}", "charge": q})


def main() -> None:
    """Writes the structures that are asked for, in random order."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--qm9", type=int, default=0)
    parser.add_argument("--fragments", type=int, default=0)
    parser.add_argument("--ions", type=int, default=0)
    parser.add_argument("--largest", type=int, default=12, help="heavy atoms, but for QM9")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    rng = random.Random(asked.seed)
    small = [smiles for smiles, elements, _ in qm9_rows() if len(elements) <= 14]
    whole = list(fragments())
    neutral = [*whole, *heavier(small)]
    frames = [
        *of_qm9(asked.qm9, rng),
        *of_smiles(dict.fromkeys(neutral), asked.fragments, asked.largest, rng),
        *of_smiles(ions([*whole, *small]), asked.ions, asked.largest, rng),
    ]
    rng.shuffle(frames)
    write(asked.out, frames, format="extxyz")


if __name__ == "__main__":
    main()
