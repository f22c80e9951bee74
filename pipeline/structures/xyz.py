"""Structures of XYZ files, and the net charge that a comment line gives."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from pipeline.adapters.damage import damage_reported
from pipeline.adapters.frame_files import XyzFile
from pipeline.structures.geometry import Geometry, Record
from store_schema.problems import SourceError

if TYPE_CHECKING:
    import ase

# Whatever ends in "charge" is the net charge, such as overall_charge or REF_charge.
_CHARGE, _CHARGE_SYMBOL = "charge", "q"
_INITIAL: Final = "sum of initial_charges"
# Charges of atoms are written with so many digits that their sum is off by less.
_NEUTRAL: Final = 1e-3
_ROUNDED: Final = 0.02


def net_charge(atoms: ase.Atoms, place: str) -> float | None:
    """Returns the net charge that a frame gives, in e; None if it does not.

    Args:
        atoms: Its atoms. In their ``info``, ``charge``, ``overall_charge`` or ``Q`` is one;
            initial charges that sum to something are the net charge, too.
        place: How messages name the frame.

    Raises:
        SourceError: What it gives is no number, or two different ones.
    """
    given = {
        name: value
        for name, value in atoms.info.items()
        if name.lower().endswith(_CHARGE) or name.lower() == _CHARGE_SYMBOL
    }
    # Of sites without an element as well: they carry some of it.
    initial = float(atoms.get_initial_charges().sum())
    if abs(initial) > _NEUTRAL:
        nearest = float(round(initial))
        given[_INITIAL] = nearest if abs(initial - nearest) < _ROUNDED else initial
    # A word without a value is True to ASE, and no charge.
    numbers = [
        float(value)
        for value in given.values()
        if isinstance(value, int | float | np.number) and not isinstance(value, bool)
    ]
    if len(numbers) == len(given) and len(set(numbers)) <= 1 and np.isfinite(numbers).all():
        return numbers[0] if numbers else None
    raise SourceError.of(
        place,
        wrong="its net charge is not clear: "
        f"{', '.join(f'{name}={value}' for name, value in given.items())}",
        consequence="its charges would not sum to what it carries",
        remedy="Write one whole number of e, such as charge=-1, or give --charge",
    )


def xyz_records(path: Path, conformers: int) -> Iterator[Record]:
    """Returns the frames of an XYZ file, each to be read.

    Raises:
        SourceError: It is damaged, or conformers are to be made, which needs bonds.
    """
    if conformers > 1:
        raise SourceError.of(
            str(path),
            wrong="an XYZ file has no bonds, which conformers are made from",
            consequence="nothing was calculated",
            remedy="Give the molecule as SDF, MOL2 or SMILES, or leave --conformers out",
        )
    with damage_reported(str(path), "an XYZ file"):
        file = XyzFile(path)
    return (partial(_frame, file, path, index) for index in range(len(file)))


def _frame(file: XyzFile, path: Path, index: int) -> Iterator[Geometry]:
    place = f"{path}, frame {index}"
    with damage_reported(place, "a frame of atoms"):
        atoms, info, _ = file.frame(index)
    real = atoms.numbers > 0
    charge = net_charge(atoms, place)
    if charge is not None and charge != round(charge):
        raise SourceError.of(
            place,
            wrong=f"its net charge is {charge:g}, which is not whole",
            consequence="no calculation can have it",
            remedy="Correct the comment line",
        )
    yield Geometry(
        place,
        str(info.get("name", path.stem if len(file) == 1 else f"{path.stem}#{index}")),
        atoms.numbers[real].astype(np.int64),
        atoms.positions[real].astype(np.float64),
        None if charge is None else int(charge),
        info.get("multiplicity"),
    )
