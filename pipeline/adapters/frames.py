"""Frames that ASE reads, such as labelled extended XYZ: a molecule each, with what it carries."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import numpy as np

from pipeline.adapters.columns import Column
from pipeline.adapters.damage import damage, damage_reported
from pipeline.adapters.frame_files import FRAME_FILES, Frame, charge_value
from pipeline.adapters.records import Header, distinct
from store_schema.semantics import meanings

# Energies of atoms, which are not the molecule's, and the state of a simulation.
_LEFT_OUT: Final = ("energies", "stresses", "momenta", "tags")
# What a calculation starts from; their sum is the net charge that it is for.
_INITIAL, _INITIAL_SUM = "initial_charges", "initial_charges_sum"
_NEUTRAL: Final = 1e-6
_FRAME: Final = "a frame with its atoms"


class Frames:
    """Frames of one file; see ``pipeline.adapters.records.Records``."""

    def __init__(self, path: Path) -> None:
        """Reads what each frame has.

        Raises:
            SourceError: The file is damaged.
        """
        self.convention, opener = FRAME_FILES[path.suffix.lower()]
        self.place = str(path)
        self.files: tuple[Path, ...] = (path,)
        unread: dict[str, str] = {}
        self._name = path.stem
        with damage_reported(self.place, _FRAME):
            self._file = opener(path.absolute())
        self._charged, self._n_ghosts = False, 0
        headers = list(self._headers(unread))
        self.unread: Mapping[str, str] = unread
        if not headers:
            raise damage(self.place, "a file of frames", "it has none")
        if not self._charged:
            headers = [{k: c for k, c in h.items() if k != _INITIAL_SUM} for h in headers]
        self.kinds, self.kind_of = distinct(headers)
        metadata: dict[str, str] = {}
        if self._file.units:
            metadata["units"] = json.dumps(self._file.units)
        if self._n_ghosts:
            metadata["sites that are no atoms, left out"] = str(self._n_ghosts)
        self.metadata: Mapping[str, str] = metadata

    def name(self, record: int) -> str:
        """Returns the file's name and the number of the frame."""
        return f"{self._name}#{record}"

    def read(self, record: int, parts: Mapping[str, slice]) -> dict[str, np.ndarray]:
        """Reads arrays of a frame, which are whole; see ``Records.read``."""
        with damage_reported(f"{self.place}, frame {record}", _FRAME):
            arrays = _readable(_values(self._file.frame(record)))
        return {key: arrays[key] for key in parts}

    def _headers(self, unread: dict[str, str]) -> Iterator[Header]:
        frames = self._file.frames()
        for index in range(len(self._file)):
            with damage_reported(f"{self.place}, frame {index}", _FRAME):
                frame = next(frames)
                values = _values(frame)
            readable = _readable(values)
            unread |= {**dict.fromkeys(values.keys() - readable.keys(), _NO_ARRAY), **frame.unread}
            self._n_ghosts += int((frame.atoms.numbers == 0).sum())
            self._charged |= abs(float(readable.get(_INITIAL_SUM, 0))) > _NEUTRAL
            yield {
                key: Column(array.shape, _dtype(array))
                for key, array in readable.items()
                if array.size
            }


_NO_ARRAY: Final = "it is neither numbers nor text"


def _values(frame: Frame) -> dict[str, np.ndarray]:
    """What a frame has, by name; sites without an element are no atoms."""
    atoms = frame.atoms
    real = atoms.numbers > 0
    found = {"numbers": atoms.numbers[real], "positions": atoms.positions[real]}
    per_atom = {**atoms.arrays, **(atoms.calc.results if atoms.calc is not None else {})}
    for key, value in per_atom.items():
        if key not in found and key not in _LEFT_OUT:
            array = np.asarray(value)
            found[key] = array[real] if array.shape[:1] == real.shape else array
    initial = atoms.get_initial_charges()
    if initial.any():  # sites that are no atoms may carry some of it
        found[_INITIAL_SUM] = np.asarray(initial.sum())
    else:
        found.pop(_INITIAL, None)
    if atoms.pbc.any():
        found["cell"] = np.asarray(atoms.cell)
    for key, value in frame.info.items():
        if key not in found:
            is_charge = [meaning.name for meaning in meanings(key)] == ["total_charge"]
            found[key] = np.asarray(charge_value(key, value) if is_charge else value)
    return found


def _readable(values: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {key: array for key, array in values.items() if array.dtype.kind in "biufU"}


def _dtype(array: np.ndarray) -> np.dtype:
    # Text is as long as it is; frames do not differ by that.
    return np.dtype(np.str_) if array.dtype.kind == "U" else array.dtype
