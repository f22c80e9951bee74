"""Large files made of the bundled sample, and the plain way of putting them into Zarr."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import zarr

from pipeline.sample import sample_sources
from pipeline.store.layout import create_array, molecules_per_shard
from store_schema import VARIABLES
from store_schema.names import ATOM, AXES, GRID_POINT

_TURNED = ("R", "vdw_surface", "Dxyz", "com")
# Variable that each key becomes, for the plain way.
_STORED_AS = {
    "id": "molecule_id",
    "N": "n_atoms",
    "n_grid": "n_grid",
    "Z": "atomic_numbers",
    "R": "positions",
    "mono": "monopoles",
    "esp": "esp",
    "vdw_surface": "vdw_surface",
    "D": "dipole_magnitude",
    "Dxyz": "dipole",
    "com": "center_of_mass",
}


def sample() -> dict[str, np.ndarray]:
    """Columns of the sample's classic file, without the rows and columns of padding."""
    with np.load(sample_sources()[0]) as raw:
        columns = {key: raw[key] for key in raw.files}
    atoms, points = int(columns["N"].max()), int(columns["n_grid"].max())
    width = {"R": atoms, "Z": atoms, "mono": atoms, "esp": points, "vdw_surface": points}
    return {k: v[:, : width[k]] if k in width else v for k, v in columns.items()}


def bytes_a_molecule() -> int:
    """Size of a molecule in such a file."""
    return sum(v.nbytes // len(v) for v in sample().values())


def write_large(path: Path, n_molecules: int, compression: int) -> None:
    """Writes molecules of the sample, turned at random each time, so that no two are the same."""
    with zipfile.ZipFile(path, "w", compression, compresslevel=1) as archive:
        for key, values in sample().items():
            dtype = np.dtype("<U24") if key == "id" else values.dtype
            with archive.open(f"{key}.npy", "w", force_zip64=True) as file:
                header = io.BytesIO()
                np.lib.format.write_array_header_2_0(
                    header,
                    {
                        "descr": np.lib.format.dtype_to_descr(dtype),
                        "fortran_order": False,
                        "shape": (n_molecules, *values.shape[1:]),
                    },
                )
                file.write(header.getvalue())
                for _, block in _blocks(key, values, n_molecules):
                    file.write(np.ascontiguousarray(block.astype(dtype)).tobytes())


def write_large_hdf5(path: Path, n_molecules: int, options: dict[str, Any]) -> None:
    """Writes the same molecules as datasets of an HDF5 file."""
    with h5py.File(path, "w") as file:
        for key, values in sample().items():
            dtype = np.dtype("S24") if key == "id" else values.dtype
            shape = (n_molecules, *values.shape[1:])
            dataset = file.create_dataset(key, shape, dtype, **options)
            for start, block in _blocks(key, values, n_molecules):
                dataset[start : start + len(block)] = block.astype(dtype)


def _blocks(key: str, values: np.ndarray, n_molecules: int) -> Iterator[tuple[int, np.ndarray]]:
    n = len(values)
    for start in range(0, n_molecules, n):
        rows = np.arange(start, min(start + n, n_molecules))
        block = values[rows % n]
        if key == "id":
            block = np.char.add(block, np.char.add("#", (rows // n).astype(str)))
        yield start, turned(block, start) if key in _TURNED else block


def turned(block: np.ndarray, seed: int) -> np.ndarray:
    """Turns vectors at random; padding of grids stays as it is."""
    turn, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))
    return np.where(np.abs(block) > 999, block, block @ turn.astype(block.dtype))


def plain_copy(path: Path, store: Path) -> None:
    """Every array of an NPZ or HDF5 file, written to Zarr with the store's own codec and layout.

    Arrays are read one after the other, each of them whole, and written in whole shards.
    """
    group = zarr.open_group(store, mode="w")
    with np.load(path) if path.suffix == ".npz" else h5py.File(path) as raw:
        lengths = {ATOM: raw["Z"].shape[1], GRID_POINT: raw["esp"].shape[1], **AXES}
        variables = {key: VARIABLES[name] for key, name in _STORED_AS.items()}
        shard = molecules_per_shard(tuple(variables.values()), lengths)
        for key, variable in variables.items():
            values = raw[key][...]
            if key in ("N", "mono"):
                values = values.reshape(values.shape[: len(variable.dims)])
            if key == "N":
                values = values.reshape(-1)
            array = create_array(group, variable, lengths, shard_molecules=shard, compression="lz4")
            array.resize(values.shape)
            for start in range(0, len(values), shard):
                block = values[start : start + shard]
                text = variable.dtype == "str"
                array[start : start + shard] = (
                    block.astype(object) if text else block.astype(variable.dtype)
                )
