"""Molecules that were calculated one by one, as one NPZ file of padded arrays."""

from __future__ import annotations

import json
import tempfile
import zipfile
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Final

import numpy as np

from pipeline.files import replaced
from pipeline.inference.declarations import DECLARE
from pipeline.reference.parts import UNITS

# Keys whose first axis, and for which alone, is as long as the molecule.
_PER_ATOM: Final = (
    *("Z", "R", "F", "mono"),
    *("atomic_dipoles", "atomic_quadrupoles", "atomic_octupoles"),
)


# What inference cannot know of small files, and need not: such as meanings that shapes leave open.
_MEANINGS: Final = {
    "dipole": "molecular_dipole_vector",
    "quadrupole": "quadrupole_tensor",
    "atomic_quadrupoles": "atomic_quadrupoles",
    "atomic_octupoles": "atomic_octupoles",
    "F": "forces",
    "electric_field": "electric_field",
    "point.dipole": "origin",
    "convention.quadrupole": "plain",
}


def gather(files: Sequence[Path], out: Path, level: str) -> None:
    """Writes what is kept of molecules into one NPZ file, in their order.

    Arrays are made on disk, so that they may be larger than memory. Padding is NaN, and 0 of
    atomic numbers.

    Args:
        files: The file of each molecule.
        out: The NPZ file, which is replaced whole.
        level: Name of the level of theory.
    """
    headers = [_header(file) for file in files]
    width = max(header["Z"][0][0] for header in headers)
    with tempfile.TemporaryDirectory(dir=out.absolute().parent, prefix=".gathered-") as name:
        folder = Path(name)
        arrays = {
            key: _array(folder, key, len(files), width, headers)
            for key in headers[0]
            if all(key in header for header in headers)
        }
        for row, file in enumerate(files):
            with np.load(file) as raw:
                for key, array in arrays.items():
                    value = raw[key]
                    if value.ndim:
                        array[row][tuple(slice(length) for length in value.shape)] = value
                    else:
                        array[row] = value
        texts = {
            "level_of_theory": level,
            "units": json.dumps(UNITS),
            DECLARE: json.dumps(_declarations(arrays)),
        }
        for key, text in texts.items():
            np.save(folder / f"{key}.npy", np.array(text))
        for array in arrays.values():
            array.flush()
        with replaced(out) as partial, zipfile.ZipFile(partial, "w", allowZip64=True) as archive:
            for key in (*arrays, *texts):
                archive.write(folder / f"{key}.npy", f"{key}.npy")


def _declarations(keys: Collection[str]) -> dict[str, str]:
    """What the keys mean, as ``ingest`` is told."""
    said = {f"unit.{key}": unit for key, unit in UNITS.items()}
    return {k: value for k, value in (said | _MEANINGS).items() if k.split(".")[-1] in keys}


def _header(file: Path) -> dict[str, tuple[tuple[int, ...], np.dtype]]:
    with np.load(file) as raw:
        return {key: (raw[key].shape, raw[key].dtype) for key in raw.files}


def _array(
    folder: Path,
    key: str,
    n: int,
    width: int,
    headers: Sequence[Mapping[str, tuple[tuple[int, ...], np.dtype]]],
) -> np.memmap:
    shape, _ = headers[0][key]
    dtype = np.result_type(*(header[key][1] for header in headers))
    shape = (width, *shape[1:]) if key in _PER_ATOM else shape
    array = np.lib.format.open_memmap(folder / f"{key}.npy", "w+", dtype, (n, *shape))
    if dtype.kind == "f":
        array[:] = np.nan
    return array
