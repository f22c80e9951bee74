"""Molecules that no model in the box may see, so that anyone can test it on them."""

from __future__ import annotations

import hashlib
from typing import Final

from rdkit import Chem

# Of ten parts of all molecules, by the hash of their SMILES.
_PARTS: Final = 10
_HELD_OUT: Final = (0, 1, 2)
# Of the rows of QM9, which are the ones by which published networks were tried here.
_QM9_PERIOD, _QM9_ROW = 1500, 700


def is_held_out(smiles: str) -> bool:
    """Says whether a molecule is held out, by the SHA-1 of its canonical SMILES (RDKit).

    Args:
        smiles: Any SMILES of the molecule.

    Raises:
        ValueError: RDKit does not read it, so that nothing can be said.
    """
    molecule = Chem.MolFromSmiles(smiles)
    if molecule is None:
        raise ValueError(f"{smiles!r} is no SMILES that RDKit reads")
    digest = hashlib.sha1(Chem.MolToSmiles(molecule).encode()).hexdigest()
    return int(digest, 16) % _PARTS in _HELD_OUT


def is_held_out_row(row: int) -> bool:
    """Says whether a row of QM9 is held out, counted from any beginning that is in use."""
    return row % _QM9_PERIOD == _QM9_ROW
