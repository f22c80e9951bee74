"""Predictions as files: extended XYZ, NPZ, NetCDF, simulations. Whole or not at all."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import ase
import ase.io
import numpy as np

from dcmnet.prediction.charges import ChargedMolecule
from dcmnet.prediction.simulation.charmm import RESIDUE, check_residue, write_dcm
from dcmnet.prediction.simulation.gromacs import write_topology
from dcmnet.prediction.simulation.openmm import write_force_field
from dcmnet.prediction.survey import Survey
from pipeline.files import staging_folder
from store_schema.names import ATOM, DCM, MOLECULE, VARIABLES, XYZ
from store_schema.problems import ConfigError
from store_schema.results import RESULT_VARIABLES

Molecules = Iterable[ChargedMolecule]

# Variables of the array files: what they are called, their dimensions and type.
_COLUMNS: Final[dict[str, tuple[tuple[str, ...], str]]] = {
    "n_atoms": ((MOLECULE,), "int64"),
    "atomic_numbers": ((MOLECULE, ATOM), "int64"),
    "positions": ((MOLECULE, ATOM, XYZ), "float64"),
    "total_charge": ((MOLECULE,), "float64"),
    "charges": ((MOLECULE, ATOM, DCM), "float64"),
    "charge_positions": ((MOLECULE, ATOM, DCM, XYZ), "float64"),
    "monopoles_predicted": ((MOLECULE, ATOM), "float64"),
    "dipole_predicted": ((MOLECULE, XYZ), "float64"),
    "esp_uncertainty": ((MOLECULE,), "float64"),
}


@contextmanager
def new_file(target: Path, overwrite: bool) -> Iterator[Path]:
    """Gives a place to write to, which becomes the target when all is written.

    Args:
        target: The file to be.
        overwrite: Whether a file of that name is replaced.

    Raises:
        ConfigError: There is one already and it may not be replaced, or it is a folder.
        StoreError: Another program is writing the same file, or there is no place for it.
    """
    if target.is_dir() or (target.exists() and not overwrite):
        raise ConfigError.of(
            str(target),
            wrong=(
                "this is a folder" if target.is_dir() else "there is a file of this name already"
            ),
            consequence="nothing was written",
            remedy="Choose another name, or replace a file with --overwrite",
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    with staging_folder(target) as staging:  # which has room for scratch files
        partial = staging / target.name
        yield partial
        os.replace(partial, target)


def check_not_input(out: Path, source: str) -> None:
    """Refuses to write over what is read.

    Raises:
        ConfigError: The file is one of the source's.
    """
    inputs = [Path(name) for name in (source, *source.split("+"))]
    if out.exists() and any(path.exists() and path.samefile(out) for path in inputs):
        raise ConfigError.of(
            f"--out {out}",
            wrong="this is the input itself",
            consequence="it is left as it is",
            remedy="Choose another name",
        )


def write_predictions(
    path: Path, molecules: Molecules, survey: Survey, title: str, residue: str = RESIDUE
) -> None:
    """Writes molecules in the format that the suffix names.

    Args:
        path: The file; array files need room for scratch files in its folder.
        molecules: What to write, as many and as large as surveyed; one for simulations.
        survey: Their names and sizes.
        title: Where the charges come from, for the file's header.
        residue: Name of the residue in files for simulations.

    Raises:
        ConfigError: The suffix names no format, or the residue has a name that none can have.
        SourceError: A file for a simulation is asked for, and the molecule has no local frame.
    """
    check_format(path)
    if path.suffix in _SIMULATION:
        check_residue(residue)
        write = _SIMULATION[path.suffix]
        (molecule,) = molecules
        write(path, molecule, residue, title)
    else:
        _FILES[path.suffix](path, molecules, survey, title)


def check_format(path: Path) -> None:
    """Refuses a file whose suffix names no format.

    Raises:
        ConfigError: It does not.
    """
    if path.suffix not in {**_FILES, **_SIMULATION}:
        raise ConfigError.of(
            f"--out {path}",
            wrong=f"a file of charges cannot end in {path.suffix or 'nothing'}; it ends in "
            f"{', '.join([*_FILES, *_SIMULATION])}",
            consequence="nothing was predicted",
            remedy="Choose the format by the name, such as charges.xyz",
        )


def as_atoms(molecule: ChargedMolecule) -> ase.Atoms:
    """Returns the atoms, then each charge as a site X, as ASE reads it back.

    Nuclei carry no charge of their own here, so the potential is a plain sum over all rows
    of ``initial_charges``. The array ``atom`` says which atom a row belongs to, from 0.
    """
    structure = molecule.structure
    sites = np.zeros(len(molecule.charges), np.int64)
    atoms = ase.Atoms(
        numbers=np.concatenate([structure.atomic_numbers, sites]),
        positions=np.concatenate([structure.positions, molecule.charge_positions]),
        charges=np.concatenate([np.zeros(structure.n_atoms), molecule.charges]),
    )
    atoms.arrays["atom"] = np.concatenate([np.arange(structure.n_atoms), molecule.atom])
    atoms.info |= {"molecule_id": structure.name, "total_charge": structure.total_charge}
    if molecule.uncertainty is not None:  # kcal/mol/e
        atoms.info["esp_uncertainty"] = round(molecule.uncertainty, 3)
    return atoms


def _write_xyz(path: Path, molecules: Molecules, _survey: Survey, title: str) -> None:
    with path.open("w", encoding="utf-8") as file:
        for molecule in molecules:
            atoms = as_atoms(molecule)
            atoms.info["model"] = title
            ase.io.write(file, atoms, format="extxyz")


def _fill_arrays(folder: Path, molecules: Molecules, survey: Survey) -> Mapping[str, np.ndarray]:
    """Writes every variable into a file of its own, a molecule at a time; returns them mapped."""
    lengths = {
        MOLECULE: len(survey.names),
        ATOM: int(survey.n_atoms.max()),
        DCM: survey.largest_n_dcm,
        XYZ: 3,
    }
    arrays: dict[str, np.memmap] = {}
    for name, (dims, dtype) in _COLUMNS.items():
        shape = tuple(lengths[dim] for dim in dims)
        arrays[name] = np.lib.format.open_memmap(folder / f"{name}.npy", "w+", dtype, shape)
        if dtype.startswith("float"):
            arrays[name][...] = np.nan
    for row, molecule in enumerate(molecules):
        structure = molecule.structure
        atoms = slice(structure.n_atoms)
        charges, positions = molecule.padded(lengths[DCM])
        arrays["n_atoms"][row] = structure.n_atoms
        arrays["atomic_numbers"][row, atoms] = structure.atomic_numbers
        arrays["positions"][row, atoms] = structure.positions
        arrays["total_charge"][row] = structure.total_charge
        arrays["charges"][row, atoms] = charges
        arrays["charge_positions"][row, atoms] = positions
        arrays["monopoles_predicted"][row, atoms] = molecule.monopoles
        arrays["dipole_predicted"][row] = molecule.dipole
        if molecule.uncertainty is not None:
            arrays["esp_uncertainty"][row] = molecule.uncertainty
    for array in arrays.values():
        array.flush()
    return arrays


def _write_npz(path: Path, molecules: Molecules, survey: Survey, title: str) -> None:
    folder = path.parent
    _fill_arrays(folder, molecules, survey)
    np.save(folder / "molecule_id.npy", np.array(survey.names))
    np.save(folder / "model.npy", np.array(title))
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
        for name in ("molecule_id", *_COLUMNS, "model"):
            archive.write(folder / f"{name}.npy", f"{name}.npy")


def _write_netcdf(path: Path, molecules: Molecules, survey: Survey, title: str) -> None:
    import xarray as xr  # half a second, which other files need not

    arrays = _fill_arrays(path.parent, molecules, survey)
    known = {**VARIABLES, **RESULT_VARIABLES}
    variables: dict[str, Any] = {}
    for name, (dims, _) in _COLUMNS.items():
        about = {"long_name": known[name].description, "units": known[name].unit}
        variables[name] = (dims, arrays[name], {k: v for k, v in about.items() if v})
    names = np.array(survey.names, dtype=object)
    dataset = xr.Dataset(variables, {"molecule_id": (MOLECULE, names)}, {"model": title})
    dataset.to_netcdf(path, engine="netcdf4")


def is_for_simulations(path: Path) -> bool:
    """Says whether a file describes one molecule by charges that move with it."""
    return path.suffix in _SIMULATION


_FILES: Final[dict[str, Callable[[Path, Molecules, Survey, str], None]]] = {
    ".xyz": _write_xyz,
    ".extxyz": _write_xyz,
    ".npz": _write_npz,
    ".nc": _write_netcdf,
}
_SIMULATION: Final = {".dcm": write_dcm, ".xml": write_force_field, ".itp": write_topology}
