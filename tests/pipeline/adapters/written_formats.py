"""Writes columns of molecules in other formats than NPZ, as groups of the field do."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import groupby
from pathlib import Path

import ase
import ase.io
import h5py
import numpy as np
import xarray as xr
from ase.calculators.singlepoint import SinglePointCalculator
from ase.data import chemical_symbols

from pipeline import ingest, open_store

PER_ATOM = ("Z", "R", "F", "mono", "species", "coord", "nuc", "where")
PER_POINT = ("esp", "vdw_surface", "espMask")
# Names that the format itself gives.
XYZ_NAMES = {"Z": "numbers", "R": "positions"}


def molecules(columns: Mapping[str, np.ndarray], n_atoms, n_grid) -> Iterator[dict]:
    """Yields the columns of each molecule, without padding; text of the file is left out."""
    for row in range(len(n_atoms)):
        lengths = dict.fromkeys(PER_ATOM, n_atoms[row])
        if n_grid is not None:
            lengths |= dict.fromkeys(PER_POINT, n_grid[row])
        yield {
            key: _plain(array[row][: lengths[key]] if key in lengths else array[row])
            for key, array in columns.items()
            if array.ndim
        }


def flat_hdf5(path: Path, columns, n_atoms, n_grid=None, **options) -> Path:
    """One dataset for each column, of all molecules."""
    with h5py.File(path.with_suffix(".h5"), "w") as file:
        for key, array in columns.items():
            if array.ndim:
                file.create_dataset(key, data=_plain(array), **options)
            else:
                file.attrs[key] = array.item()
    return path.with_suffix(".h5")


def molecule_groups(path: Path, columns, n_atoms, n_grid=None) -> Path:
    """A group for each molecule, in groups of ten; scalars are attributes."""
    with h5py.File(path.with_suffix(".hdf5"), "w") as file:
        _attributes(file, columns)
        for index, molecule in enumerate(molecules(columns, n_atoms, n_grid)):
            group = file.create_group(f"part{index // 10:04}/molecule{index:06}")
            for key, array in molecule.items():
                if np.ndim(array):
                    group[key] = array
                else:
                    group.attrs[key] = array
    return path.with_suffix(".hdf5")


def formula_groups(path: Path, columns, n_atoms, n_grid=None) -> Path:
    """A group for consecutive geometries of the same atoms, which are given once."""
    numbers = next(key for key in ("Z", "species", "nuc") if key in columns)
    rows = groupby(range(len(n_atoms)), key=lambda row: columns[numbers][row].tobytes())
    with h5py.File(path.with_suffix(".h5"), "w") as file:
        _attributes(file, columns)
        for index, (_, same) in enumerate(rows):
            chosen = list(same)
            group = file.create_group(f"formula{index:06}")
            for key, array in columns.items():
                if array.ndim:
                    part = (
                        array[chosen][:, : n_atoms[chosen[0]]] if key in PER_ATOM else array[chosen]
                    )
                    group[key] = _plain(part[0] if key == numbers else part)
    return path.with_suffix(".h5")


def extended_xyz(path: Path, columns, n_atoms, n_grid=None) -> Path:
    """A frame for each molecule, with all digits, which ASE's own writer has not."""
    lines: list[str] = []
    for molecule in molecules(columns, n_atoms, None):
        numbers, own = molecule.pop("Z"), [molecule.pop("R")]
        said, about = ["species:S:1", "pos:R:3"], []
        for key, value in molecule.items():
            if key in PER_ATOM:
                own.append(value.reshape(len(numbers), -1))
                said.append(f"{key}:R:{own[-1].shape[1]}")
            else:
                about.append(f'{key}="{" ".join(f"{v:.17g}" for v in np.ravel(value))}"')
        lines += [str(len(numbers)), f"Properties={':'.join(said)} {' '.join(about)}"]
        for number, row in zip(numbers, np.hstack(own), strict=True):
            lines.append(f"{chemical_symbols[number]} {' '.join(f'{v:.17g}' for v in row)}")
    path.with_suffix(".extxyz").write_text("\n".join(lines) + "\n")
    return path.with_suffix(".extxyz")


def trajectory(path: Path, columns, n_atoms, n_grid=None) -> Path:
    """A trajectory of ASE, which keeps charges as a calculator leaves them."""
    frames = list(_frames(columns, n_atoms))
    for atoms in frames:
        if "mono" in atoms.arrays:
            atoms.calc = SinglePointCalculator(atoms, charges=atoms.arrays.pop("mono"))
    ase.io.write(path.with_suffix(".traj"), frames)
    return path.with_suffix(".traj")


def _frames(columns, n_atoms) -> Iterator[ase.Atoms]:
    for molecule in molecules(columns, n_atoms, None):
        numbers, positions = molecule.pop("Z"), molecule.pop("R")
        atoms = ase.Atoms(numbers=numbers, positions=positions)
        for key, value in molecule.items():
            if key in PER_ATOM:
                wide = value.reshape(len(numbers), -1)
                atoms.arrays[key] = wide[:, 0] if wide.shape[1] == 1 else wide
            else:
                atoms.info[key] = value
        yield atoms


def _attributes(file: h5py.File, columns) -> None:
    for key, array in columns.items():
        if not array.ndim:
            file.attrs[key] = array.item()


def _plain(array):
    array = np.asarray(array)
    return np.char.encode(array) if array.dtype.kind == "U" else array


HDF5 = {
    "HDF5, arrays": flat_hdf5,
    "HDF5, a group per molecule": molecule_groups,
    "HDF5, a group per formula": formula_groups,
}
XYZ = {"extended XYZ": extended_xyz, "trajectory": trajectory}


def water(**info) -> ase.Atoms:
    """Returns a molecule of water, with what is said of it."""
    atoms = ase.Atoms("OH2", [[0, 0, 0.119], [0, 0.763, -0.477], [0, -0.763, -0.477]])
    atoms.info.update(info)
    return atoms


def stored(path: Path, store: Path, **options) -> xr.Dataset:
    """Ingests a file, and returns the molecules of the store."""
    ingest([path], store, **options)
    return open_store(store).to_dataset().load()
