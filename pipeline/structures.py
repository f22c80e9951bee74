"""Structures as chemists have them: XYZ, SDF, MOL2 and SMILES, each with its net charge."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from pipeline.adapters.damage import damage_reported
from pipeline.adapters.frame_files import XyzFile
from store_schema.extras import extra
from store_schema.problems import SourceError

if TYPE_CHECKING:
    from rdkit import Chem

# Whatever ends in "charge" is the net charge, such as overall_charge or REF_charge.
_CHARGE, _CHARGE_SYMBOL = "charge", "q"
# Partial charges of a MOL2 file are written with so many digits that they sum to this.
_ROUNDED: Final = 0.05
_SEED: Final = 2026
_CLOCK: Final = re.compile(r"^\[\d\d:\d\d:\d\d\] ")
_MOL2_BEGIN: Final = "@<TRIPOS>MOLECULE"


class Geometry(NamedTuple):
    """One molecule at one geometry.

    Attributes:
        place: How messages name it.
        name: Its name.
        numbers: Atomic numbers.
        positions: Positions in Å.
        charge: Net charge in e; None where nothing says it.
        multiplicity: 2S + 1; None where nothing says it.
    """

    place: str
    name: str
    numbers: Int[np.ndarray, " atom"]
    positions: Float[np.ndarray, "atom 3"]
    charge: int | None = None
    multiplicity: int | None = None


# Reads one record of a file: a geometry, or several conformers.
_Record = Callable[[], Iterator[Geometry]]


def read_structures(
    source: str | Path,
    conformers: int = 1,
    on_error: Callable[[SourceError], None] | None = None,
) -> Iterator[Geometry]:
    """Reads structures one by one.

    Args:
        source: A file (``.xyz``, ``.extxyz``, ``.sdf``, ``.mol``, ``.mol2``, or ``.smi`` with
            a SMILES and a name per line), or a SMILES.
        conformers: Geometries of each molecule; more than one are made by RDKit (ETKDG, MMFF94),
            which needs bonds.
        on_error: Takes what is wrong with a record, and the next one is read; raised if None.

    Yields:
        The geometries.

    Raises:
        SourceError: It is neither, or a structure in it is damaged, flat, or without hydrogens
            that its bonds need.
        ConfigError: RDKit is needed and not installed.
    """
    path, text = Path(source).expanduser(), str(source)
    suffix = path.suffix.lower()
    if not path.exists() and suffix not in STRUCTURE_FILES:
        records: Iterator[_Record] = iter([partial(_smiles, text, text, text, conformers)])
    elif not path.is_file() or suffix not in STRUCTURE_FILES:
        raise SourceError.of(
            text,
            expected=f"a file of structures ({', '.join(STRUCTURE_FILES)}), or a SMILES",
            received="another kind of file" if path.exists() else "nothing of that name",
            consequence="there are no molecules",
            remedy="Name such a file, or put a SMILES in quotes",
        )
    else:
        records = STRUCTURE_FILES[suffix](path, conformers)
    for record in records:
        try:
            yield from record()
        except SourceError as error:
            if on_error is None:
                raise
            on_error(error)


def is_smiles(text: str) -> bool:
    """Says whether a text is a SMILES; without RDKit, nothing is."""
    try:
        from rdkit import Chem
    except ModuleNotFoundError:
        return False
    with _captured():
        return bool(text) and Chem.MolFromSmiles(text) is not None


def net_charge(info: Mapping[str, Any], place: str) -> float | None:
    """Returns the net charge that the comment line of a frame gives, in e; None if it does not.

    Args:
        info: Its values by name; ``charge``, ``overall_charge`` or ``Q`` is one.
        place: How messages name the frame.

    Raises:
        SourceError: What it gives is no number, or two different ones.
    """
    given = {
        name: value
        for name, value in info.items()
        if name.lower().endswith(_CHARGE) or name.lower() == _CHARGE_SYMBOL
    }
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
        expected="a net charge in e, such as charge=-1",
        received=", ".join(f"{name}={value}" for name, value in given.items()),
        consequence="its charges would not sum to what it carries",
        remedy="Correct the comment line, or give --charge",
    )


def _xyz(path: Path, conformers: int) -> Iterator[_Record]:
    if conformers > 1:
        raise SourceError.of(
            str(path),
            expected="bonds, to make conformers",
            received="an XYZ file, which has none",
            consequence="nothing was calculated",
            remedy="Give the molecule as SDF, MOL2 or SMILES, or leave --conformers out",
        )
    with damage_reported(str(path), "frames of atoms"):
        file = XyzFile(path)
    return (partial(_frame, file, path, index) for index in range(len(file)))


def _frame(file: XyzFile, path: Path, index: int) -> Iterator[Geometry]:
    place = f"{path}, frame {index}"
    with damage_reported(place, "a frame of atoms"):
        atoms, info = file.frame(index)
    real = atoms.numbers > 0
    charge = net_charge(info, place)
    if charge is not None and charge != round(charge):
        raise SourceError.of(
            place,
            expected="a whole net charge",
            received=f"{charge:g}",
            consequence="no calculation can have it",
            remedy="Correct the comment line",
        )
    yield Geometry(
        place,
        str(info.get("name", path.stem if len(file) == 1 else f"{path.stem}/{index}")),
        atoms.numbers[real].astype(np.int64),
        atoms.positions[real].astype(np.float64),
        None if charge is None else int(charge),
        info.get("multiplicity"),
    )


def _sdf(path: Path, conformers: int) -> Iterator[_Record]:
    with extra("reference", f"reading {path}"):
        from rdkit import Chem

    text = path.read_text(encoding="utf-8", errors="replace")
    blocks = re.split(r"^\$\$\$\$.*\n?", text, flags=re.MULTILINE)
    parse = partial(Chem.MolFromMolBlock, removeHs=False)
    return _records(path, [block for block in blocks if block.strip()], parse, conformers)


def _mol2(path: Path, conformers: int) -> Iterator[_Record]:
    with extra("reference", f"reading {path}"):
        from rdkit import Chem

    _, *blocks = path.read_text(encoding="utf-8", errors="replace").split(_MOL2_BEGIN)
    parse = partial(Chem.MolFromMol2Block, removeHs=False)
    return _records(path, [_MOL2_BEGIN + block for block in blocks], parse, conformers)


def _smiles_file(path: Path, conformers: int) -> Iterator[_Record]:
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    for index, line in enumerate(lines):
        if line.strip() and not line.lstrip().startswith("#"):
            smiles, *name = line.split(maxsplit=1)
            place = f"{path}, line {index + 1}"
            yield partial(_smiles, smiles, place, (name or [smiles])[0].strip(), conformers)


# Readers by suffix.
STRUCTURE_FILES: Final[dict[str, Callable[[Path, int], Iterator[_Record]]]] = {
    **dict.fromkeys((".xyz", ".extxyz"), _xyz),
    **dict.fromkeys((".sdf", ".mol"), _sdf),
    ".mol2": _mol2,
    **dict.fromkeys((".smi", ".smiles"), _smiles_file),
}


def _smiles(smiles: str, place: str, name: str, conformers: int) -> Iterator[Geometry]:
    with extra("reference", f"reading the SMILES {smiles}"):
        from rdkit import Chem

    molecule = Chem.AddHs(_parsed(Chem.MolFromSmiles, smiles, place))
    return _of_molecule(molecule, place, name, conformers)


def _records(
    path: Path,
    blocks: Sequence[str],
    parse: Callable[[str], Chem.Mol | None],
    conformers: int,
) -> Iterator[_Record]:
    if not blocks:
        raise SourceError.of(
            str(path),
            expected="records of molecules",
            received="none",
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
        expected="a molecule",
        received=said[0] if said else "nothing that RDKit reads",
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
    name = named or f"{path.stem}/{index}"
    has_geometry = molecule.GetNumConformers() and molecule.GetConformer().Is3D()
    lacking = sum(atom.GetTotalNumHs() for atom in molecule.GetAtoms())
    if conformers == 1 and (not has_geometry or lacking):
        raise SourceError.of(
            place,
            expected="positions of all atoms in three dimensions",
            received=f"{lacking} hydrogens without a place" if lacking else "a flat drawing",
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
    from rdkit.Chem import rdDistGeom, rdForceFieldHelpers

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
            expected="a molecule that can be placed in three dimensions",
            received="one of which RDKit makes no geometry",
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
    """Raises a SourceError where partial charges sum to another charge than the formal one."""
    from rdkit import Chem

    name = "_TriposPartialCharge"
    partial = [a.GetProp(name) for a in molecule.GetAtoms() if a.HasProp(name)]
    total, formal = sum(float(value) for value in partial), Chem.GetFormalCharge(molecule)
    if any(float(value) for value in partial) and abs(total - formal) > _ROUNDED:
        raise SourceError.of(
            place,
            expected=f"partial charges that sum to the formal charge of its atoms, {formal}",
            received=f"{total:.2f}",
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
