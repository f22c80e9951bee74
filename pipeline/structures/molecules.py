"""Structures of SDF, MOL2 and SMILES, whose bonds and formal charges RDKit reads."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from pipeline.structures.geometry import Geometry, Record
from store_schema.extras import extra
from store_schema.problems import SourceError

if TYPE_CHECKING:
    from rdkit import Chem

# Partial charges of a MOL2 file are written with so many digits that they sum to this.
_ROUNDED: Final = 0.05
_SEED: Final = 2026
_CLOCK: Final = re.compile(r"^\[\d\d:\d\d:\d\d\] ")
_MOL2_BEGIN: Final = "@<TRIPOS>MOLECULE"


def is_smiles(text: str) -> bool:
    """Says whether a text is a SMILES; without RDKit, nothing is."""
    return smiles_problem(text) is None


def smiles_problem(text: str) -> str | None:
    """Returns what is wrong with a SMILES, None if nothing is.

    It is empty for a text that does not resemble one, and without RDKit.
    """
    try:
        from rdkit import Chem
    except ModuleNotFoundError:
        return ""
    with _captured() as said:
        if len(text.split()) == 1 and Chem.MolFromSmiles(text) is not None:
            return None
    reason = said[0].removeprefix("SMILES Parse Error: ") if said else ""
    return "" if "syntax error" in reason else reason


def sdf_records(path: Path, conformers: int) -> Iterator[Record]:
    """Returns the records of an SDF, each to be read."""
    with extra("reference", f"reading {path}"):
        from rdkit import Chem

    text = path.read_text(encoding="utf-8", errors="replace")
    blocks = re.split(r"^\$\$\$\$.*\n?", text, flags=re.MULTILINE)
    parse = partial(Chem.MolFromMolBlock, removeHs=False)
    return _records(path, [block for block in blocks if block.strip()], parse, conformers)


def mol2_records(path: Path, conformers: int) -> Iterator[Record]:
    """Returns the records of a MOL2 file, each to be read."""
    with extra("reference", f"reading {path}"):
        from rdkit import Chem

    _, *blocks = path.read_text(encoding="utf-8", errors="replace").split(_MOL2_BEGIN)
    parse = partial(Chem.MolFromMol2Block, removeHs=False)
    return _records(path, [_MOL2_BEGIN + block for block in blocks], parse, conformers)


def smiles_records(path: Path, conformers: int) -> Iterator[Record]:
    """Returns the lines of a file of SMILES and names, each to be read."""
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    for index, line in enumerate(lines):
        if line.strip() and not line.lstrip().startswith("#"):
            smiles, *name = line.split(maxsplit=1)
            place = f"{path}, line {index + 1}"
            yield partial(of_smiles, smiles, place, (name or [smiles])[0].strip(), conformers)


def of_smiles(smiles: str, place: str, name: str, conformers: int) -> Iterator[Geometry]:
    """Returns conformers of a SMILES.

    Raises:
        SourceError: It is none, or cannot be embedded.
        ConfigError: RDKit is not installed.
    """
    with extra("reference", f"reading the SMILES {smiles}"):
        from rdkit import Chem

    molecule = Chem.AddHs(_parsed(Chem.MolFromSmiles, smiles, place))
    return _of_molecule(molecule, place, name, conformers)


def _records(
    path: Path,
    blocks: Sequence[str],
    parse: Callable[[str], Chem.Mol | None],
    conformers: int,
) -> Iterator[Record]:
    if not blocks:
        raise SourceError.of(
            str(path),
            wrong="there are no records of molecules in it",
            consequence="there are no molecules",
            remedy="Make or download the file again",
        )
    return (
        partial(_of_record, block, parse, path, index, conformers)
        for index, block in enumerate(blocks)
    )


def _parsed(parse: Callable[[str], Chem.Mol | None], text: str, place: str) -> Chem.Mol:
    """What RDKit makes of a text.

    Raises:
        SourceError: It is no molecule to RDKit, which says why.
    """
    with _captured() as said:
        molecule = parse(text)
    if molecule is not None and molecule.GetNumAtoms():
        return molecule
    raise SourceError.of(
        place,
        wrong=f"this is no molecule: {said[0] if said else 'RDKit reads nothing in it'}",
        consequence="there is no structure",
        remedy="Correct it; a file that is meant does not exist under this name",
    )


def _of_record(
    block: str, parse: Callable[[str], Chem.Mol | None], path: Path, index: int, conformers: int
) -> Iterator[Geometry]:
    """The geometry of a record, or conformers of its molecule."""
    place = f"{path}, record {index}"
    molecule = _parsed(parse, block, place)
    _check_partial_charges(molecule, place)
    named = molecule.GetProp("_Name").strip() if molecule.HasProp("_Name") else ""
    name = named or f"{path.stem}#{index}"
    has_geometry = molecule.GetNumConformers() and molecule.GetConformer().Is3D()
    lacking = sum(atom.GetTotalNumHs() for atom in molecule.GetAtoms())
    if conformers == 1 and (not has_geometry or lacking):
        raise SourceError.of(
            place,
            wrong=f"{lacking} hydrogens have no place" if lacking else "this is a flat drawing",
            consequence="there is no structure",
            remedy="Give a SMILES, which is embedded, or write the record with its hydrogens",
        )
    if conformers == 1:
        yield _geometry(molecule, 0, place, name)
        return
    from rdkit import Chem

    yield from _of_molecule(Chem.AddHs(molecule), place, name, conformers)


def _of_molecule(molecule: Chem.Mol, place: str, name: str, conformers: int) -> Iterator[Geometry]:
    """Conformers of a molecule with all its hydrogens, relaxed by a force field."""
    from rdkit import Chem
    from rdkit.Chem import rdDistGeom, rdForceFieldHelpers

    parts = len(Chem.GetMolFrags(molecule))
    if parts > 1:
        raise SourceError.of(
            place,
            wrong=f"these are {parts} molecules, and nothing says how they lie to each other",
            consequence="there is no structure",
            remedy="Give each by itself, or the geometry of all as XYZ, SDF or MOL2",
        )
    if molecule.GetNumAtoms() == 1:
        conformers = 1  # all of an atom are the same
    parameters: Any = rdDistGeom.ETKDGv3()
    parameters.randomSeed = _SEED
    with _captured():
        made = list(rdDistGeom.EmbedMultipleConfs(molecule, conformers, parameters))
        if made and rdForceFieldHelpers.MMFFHasAllMoleculeParams(molecule):
            rdForceFieldHelpers.MMFFOptimizeMoleculeConfs(molecule, maxIters=2000)
        elif made and rdForceFieldHelpers.UFFHasAllMoleculeParams(molecule):
            rdForceFieldHelpers.UFFOptimizeMoleculeConfs(molecule, maxIters=2000)
    if not made:
        raise SourceError.of(
            place,
            wrong="RDKit finds no geometry for this molecule",
            consequence="there is no structure",
            remedy="Give its geometry as XYZ, SDF or MOL2",
        )
    for number, conformer in enumerate(made):
        own = name if conformers == 1 else f"{name}/{number}"
        yield _geometry(molecule, conformer, place, own)


def _geometry(molecule: Chem.Mol, conformer: int, place: str, name: str) -> Geometry:
    from rdkit import Chem

    radicals = sum(atom.GetNumRadicalElectrons() for atom in molecule.GetAtoms())
    return Geometry(
        place,
        name,
        np.array([atom.GetAtomicNum() for atom in molecule.GetAtoms()], np.int64),
        np.array(molecule.GetConformer(conformer).GetPositions(), np.float64),
        Chem.GetFormalCharge(molecule),
        radicals + 1,
    )


def _check_partial_charges(molecule: Chem.Mol, place: str) -> None:
    """Raises a SourceError where partial charges do not sum to the formal one, or are none."""
    from rdkit import Chem

    name = "_TriposPartialCharge"
    written = [a.GetProp(name) for a in molecule.GetAtoms() if a.HasProp(name)]
    try:
        partial = [float(value) for value in written]
    except ValueError as error:
        raise SourceError.of(
            place,
            wrong=f"its partial charges are not numbers: {error}",
            consequence="the file is damaged, and its net charge is not known",
            remedy="Write it again",
        ) from None
    total, formal = sum(partial), Chem.GetFormalCharge(molecule)
    if any(partial) and not abs(total - formal) <= _ROUNDED:
        raise SourceError.of(
            place,
            wrong=f"its partial charges sum to {total:.2f}, the formal charges of its atoms to "
            f"{formal}",
            consequence="its net charge is not known",
            remedy="Correct the types of its atoms, or write its charges as 0",
        )


@contextmanager
def _captured() -> Iterator[list[str]]:
    """Fills a list with what RDKit says meanwhile, instead of its going to standard error."""
    from rdkit import rdBase

    said: list[str] = []
    rdBase.LogToPythonStderr()
    try:
        with redirect_stderr(io.StringIO()) as text:
            yield said
        said += [_CLOCK.sub("", line) for line in text.getvalue().splitlines() if line]
    finally:
        rdBase.LogToCppStreams()
