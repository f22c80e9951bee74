"""Formats of files by their suffix: arrays by name, or records of a molecule each."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from pipeline.adapters.esp_files import ESP_FILES
from pipeline.adapters.esp_records import EspRecord
from pipeline.adapters.frame_files import FRAME_FILES
from pipeline.adapters.frames import Frames
from pipeline.adapters.hdf5 import Hdf5
from pipeline.adapters.hdf5_file import Hdf5File
from pipeline.adapters.hdf5_groups import Hdf5Groups, records_of
from pipeline.adapters.layout import Names
from pipeline.adapters.npz import NpzFile
from store_schema.problems import SourceError

_HDF5: Final = (".h5", ".hdf5")
SUFFIXES: Final = (".npz", *_HDF5, *ESP_FILES, *FRAME_FILES)

# Met in folders of data; a file without a known suffix may still be NPZ.
_TABLES: Final = (".csv", ".tsv", ".txt", ".json", ".xlsx", ".parquet", ".pkl", ".pt", ".mat")

Opened = NpzFile | Hdf5File | Hdf5Groups | Frames | EspRecord
# Formats that hold molecules one by one.
RECORDS: Final = (Hdf5Groups, Frames, EspRecord)


def open_file(path: Path, names: Names, allow_pickle: bool = False) -> Opened:
    """Opens a file in the format that its suffix names; NPZ if it names none.

    Args:
        path: The file.
        names: What keys may mean.
        allow_pickle: Admit object arrays of NPZ files.

    Raises:
        SourceError: It is damaged, or holds no molecules.
        ConfigError: A package that the format needs is missing.
    """
    suffix = path.suffix.lower()
    if suffix in _TABLES:
        raise SourceError.of(
            str(path),
            wrong=f"{suffix} is no format of reference data that is read: {', '.join(SUFFIXES)}",
            consequence="nothing was read",
            remedy="Write its columns as arrays of an NPZ file",
        )
    if suffix in _HDF5:
        file = Hdf5(path)
        records, metadata, left_out = records_of(file, names)
        if len(records) == 1 and not left_out:
            return Hdf5File(file, records[0])
        return Hdf5Groups(file, records, names, metadata, left_out)
    if suffix in FRAME_FILES:
        return Frames(path)
    if suffix in ESP_FILES:
        return EspRecord(path)
    return NpzFile(path, allow_pickle)
