"""Structures as chemists have them: files by their suffix, or a SMILES."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Final

from pipeline.structures.geometry import Geometry, Record
from pipeline.structures.molecules import mol2_records, of_smiles, sdf_records, smiles_records
from pipeline.structures.xyz import xyz_records
from store_schema.problems import SourceError

# Readers by suffix.
STRUCTURE_FILES: Final[dict[str, Callable[[Path, int], Iterator[Record]]]] = {
    **dict.fromkeys((".xyz", ".extxyz"), xyz_records),
    **dict.fromkeys((".sdf", ".mol"), sdf_records),
    ".mol2": mol2_records,
    **dict.fromkeys((".smi", ".smiles"), smiles_records),
}


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
    if not path.exists() and suffix not in STRUCTURE_FILES and len(text.split()) == 1:
        records: Iterator[Record] = iter([partial(of_smiles, text, text, text, conformers)])
    elif not path.is_file() or suffix not in STRUCTURE_FILES:
        raise SourceError.of(
            text if text.strip() else repr(text),
            wrong=(
                "this kind of file is not known"
                if path.exists()
                else "there is nothing of this name"
            )
            + f"; a structure is a file ({', '.join(STRUCTURE_FILES)}), or a SMILES",
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
