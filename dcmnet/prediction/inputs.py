"""Molecules to predict, wherever they are: in windows, always in the same order."""

from __future__ import annotations

import glob
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Final, Protocol

import numpy as np

from dcmnet.model.molecule import Structure
from pipeline.adapters.damage import damage_reported
from pipeline.adapters.formats import SUFFIXES
from pipeline.adapters.frame_files import XyzFile
from pipeline.structures import (
    STRUCTURE_FILES,
    Geometry,
    is_smiles,
    net_charge,
    read_structures,
    smiles_problem,
)
from store_schema.problems import ConfigError, SourceError

# Molecules that are in memory at once.
WINDOW: Final = 2048
_XYZ: Final = (".xyz", ".extxyz")
_FILES: Final = tuple(dict.fromkeys((*SUFFIXES, *STRUCTURE_FILES)))
_FRAMES: Final = "frames of an XYZ file: a count of atoms, a comment, 'symbol x y z' per atom"


class Structures(Protocol):
    """Molecules that can be read more than once, always in the same order.

    Attributes:
        place: How messages name them.
    """

    @property
    def place(self) -> str:
        """How messages name them."""
        ...

    def windows(self) -> Iterator[list[Structure]]:
        """Yields the molecules, some at a time.

        Raises:
            SourceError: They cannot be read.
        """
        ...


def open_structures(
    source: str | Path,
    *,
    total_charge: float | None = None,
    with_esp: bool = False,
    declare: Mapping[str, str] | None = None,
) -> Structures:
    """Opens molecules to predict.

    Args:
        source: An ``.xyz`` file of one or many frames, files as ``ingest`` takes them, SDF,
            MOL2 or SMILES, or a store.
        total_charge: Net charge of all of them; a source that says another is refused.
        with_esp: Whether a reference ESP is read, too.
        declare: What inference shall not decide of such files, as for ``ingest``.

    Raises:
        SourceError: There is no such file, or it is of another kind.
    """
    text, path = str(source), Path(source)
    if declare and not _is_inferred(text, path):
        raise ConfigError.of(
            f"--declare {next(iter(declare))}",
            wrong=f"nothing is inferred of {text}, whose format or store says what its values are",
            consequence="nothing was predicted",
            remedy="Leave it out; XYZ files are in angstrom",
        )
    found: Structures
    if "://" in text or (path / "zarr.json").is_file():
        from dcmnet.prediction.stored_inputs import StoredStructures

        found = StoredStructures(text, with_esp)
    elif path.suffix.lower() in _XYZ and path.is_file():
        found = _XyzFile(path)
    elif (path.is_file() and path.suffix.lower() in STRUCTURE_FILES) or (
        not path.exists() and is_smiles(text)
    ):
        return _Described(text, total_charge)
    elif text and (path.is_dir() or _names_files(text)):
        from dcmnet.prediction.stored_inputs import FileStructures

        found = FileStructures(text, with_esp, declare, total_charge)
    else:
        problem = "" if path.exists() else smiles_problem(text)
        raise SourceError.of(
            text or repr(text),
            wrong=(
                "this kind of file is not known"
                if path.exists()
                else "there is nothing of this name"
            )
            + (f", and as a SMILES it is wrong ({problem})" if problem else "")
            + f"; molecules come from a store, files ({', '.join(_FILES)}), or a SMILES",
            consequence="there is nothing to predict",
            remedy="Name such a file, or the folder of a store",
        )
    return found if total_charge is None else _WithCharge(found, total_charge)


def _is_inferred(text: str, path: Path) -> bool:
    """Whether these are files of which ``ingest`` infers what they mean."""
    if "://" in text or (path / "zarr.json").is_file() or path.suffix.lower() in _XYZ:
        return False
    return path.suffix.lower() not in STRUCTURE_FILES and (path.is_dir() or _names_files(text))


def _names_files(text: str) -> bool:
    """Whether a text names files of a format that ``ingest`` reads, or may do so."""
    several = "+" in text or glob.has_magic(text)
    readable = any(suffix in text.lower() for suffix in SUFFIXES)
    return readable and (several or Path(text).exists())


@dataclass(frozen=True)
class InMemory:
    """Molecules that are at hand."""

    structures: tuple[Structure, ...]
    place: str = "predict"

    def windows(self) -> Iterator[list[Structure]]:
        """Yields the molecules, some at a time."""
        for start in range(0, len(self.structures), WINDOW):
            yield list(self.structures[start : start + WINDOW])


@dataclass(frozen=True)
class _WithCharge:
    structures: Structures
    total_charge: float

    @property
    def place(self) -> str:
        return self.structures.place

    def windows(self) -> Iterator[list[Structure]]:
        for window in self.structures.windows():
            yield [self._with_charge(structure) for structure in window]

    def _with_charge(self, structure: Structure) -> Structure:
        is_other = structure.charge_given and structure.total_charge != self.total_charge
        if is_other and math.isfinite(self.total_charge):  # what is not finite is refused later
            raise _other_charge(
                structure.place, self.total_charge, f"its net charge is {structure.total_charge:g}"
            )
        return replace(structure, total_charge=self.total_charge, charge_given=True)


def _other_charge(place: str, charge: float, said: str) -> SourceError:
    return SourceError.of(
        place,
        wrong=f"--charge is {charge:g}, but {said}",
        consequence="nothing was predicted",
        remedy="Leave --charge out, or give the molecule in its other state",
    )


class _XyzFile:
    """Frames of an XYZ file, plain or extended, read one after the other."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.place = str(path)

    def windows(self) -> Iterator[list[Structure]]:
        with damage_reported(self.place, _FRAMES):
            file = XyzFile(self._path)
        structures = (self._structure(file, index) for index in range(len(file)))
        while window := list(islice(structures, WINDOW)):
            yield window

    def _structure(self, file: XyzFile, index: int) -> Structure:
        place = f"{self.place}, frame {index}"
        with damage_reported(place, _FRAMES):
            atoms, info, _ = file.frame(index)
        given = net_charge(atoms, place)
        n_sites = int((atoms.numbers == 0).sum())  # such as charges
        atoms = atoms[atoms.numbers > 0]
        name = info.get("molecule_id", info.get("name", f"{self._path.stem}#{index}"))
        return Structure(
            place=place,
            name=str(name),
            atomic_numbers=atoms.numbers.astype(np.int64),
            positions=atoms.positions.astype(np.float64),
            total_charge=0.0 if given is None else given,
            charge_given=given is not None,
            periodic=bool(atoms.pbc.any()),
            sites_left_out=n_sites,
        )


class _Described:
    """Molecules of an SDF, MOL2 or SMILES, whose atoms have formal charges."""

    def __init__(self, source: str, total_charge: float | None) -> None:
        self.place, self._total_charge = source, total_charge

    def windows(self) -> Iterator[list[Structure]]:
        geometries = read_structures(self.place)
        while window := [self._structure(g) for g in islice(geometries, WINDOW)]:
            yield window

    def _structure(self, geometry: Geometry) -> Structure:
        charge = geometry.charge or 0
        if self._total_charge is not None and self._total_charge != charge:
            raise _other_charge(
                geometry.place,
                self._total_charge,
                f"the formal charges of its atoms sum to {charge}",
            )
        return Structure(
            place=geometry.place,
            name=geometry.name,
            atomic_numbers=geometry.numbers,
            positions=geometry.positions,
            total_charge=float(charge),
            charge_given=True,
        )
