"""Datasets as dictionaries of padded arrays, under the short names notebooks use.

All values are in the store's units: angstrom, e, hartree/e, e*angstrom,
e*angstrom^2, hartree. Missing values and padding are NaN, padding atoms have
``Z`` 0.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import jax
import numpy as np
from jaxtyping import PRNGKeyArray

from pipeline import ingest, open_store
from store_schema import VARIABLES
from store_schema.names import ATOM
from store_schema.problems import ConfigError

Dataset = dict[str, np.ndarray]

# Short names, the variables they are, and what they mean where a name has several readings.
SHORT_NAMES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "id": "molecule_id",
        "R": "positions",
        "Z": "atomic_numbers",
        "N": "n_atoms",
        "mono": "monopoles",
        "esp": "esp",
        "vdw_surface": "vdw_surface",
        "n_grid": "n_grid",
        "Q": "total_charge",
        "D": "dipole_magnitude",
        "Dxyz": "dipole",
        "quadrupole": "quadrupole",
        "E": "energy",
        "F": "forces",
        "com": "center_of_mass",
        "polar": "polarizability",
    }
)


def prepare_datasets(
    key: PRNGKeyArray,
    num_train: int,
    num_valid: int,
    filename: Sequence[str | Path] | str | Path,
    natoms: int | None = None,
    declare: Mapping[str, str] | None = None,
) -> tuple[Dataset, Dataset]:
    """Reads NPZ files of any convention and draws training and validation molecules.

    Args:
        key: JAX key that draws the molecules.
        num_train: Training molecules.
        num_valid: Validation molecules.
        filename: One file or several, as ``ingest`` takes them.
        natoms: Atoms to pad to; the largest molecule decides where left out.
        declare: What inference shall not decide, as for ``ingest``.

    Returns:
        Training and validation dataset; keys are those of ``SHORT_NAMES`` that the
        files brought, arrays have the molecules first.

    Raises:
        ConfigError: There are fewer molecules than asked for, or larger ones than ``natoms``.
        SourceError: A file cannot be read.
        AmbiguityError: A key has several readings left.
    """
    files = [filename] if isinstance(filename, str | Path) else list(filename)
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder) / "molecules.zarr"
        ingest(files, store, declare=declare)
        molecules = open_store(store).to_dataset().load()
    total = molecules.sizes["molecule"]
    _check("num_train + num_valid", num_train + num_valid, total, "molecules in the files")
    rows = np.asarray(jax.random.permutation(key, total))[: num_train + num_valid]
    dataset = {
        short: _plain(molecules[name].values[rows])
        for short, name in SHORT_NAMES.items()
        if name in molecules
    }
    if natoms is not None:
        _check("the largest molecule", int(molecules["n_atoms"].max()), natoms, "natoms")
        dataset = {short: _padded(short, array, natoms) for short, array in dataset.items()}
    return (
        {short: array[:num_train] for short, array in dataset.items()},
        {short: array[num_train:] for short, array in dataset.items()},
    )


def store_of(train: Mapping[str, np.ndarray], valid: Mapping[str, np.ndarray], store: Path) -> None:
    """Makes a store of two datasets, which remembers them as its split.

    Args:
        train: Training dataset, as ``prepare_datasets`` returns it.
        valid: Validation dataset.
        store: Folder of the store to make.

    Raises:
        SourceError: An array does not fit its name.
    """
    readings = {"D": "dipole_magnitude", "Q": "total_charge", "Dxyz": "molecular_dipole_vector"}
    units = {
        "R": "angstrom",
        "vdw_surface": "angstrom",
        "esp": "hartree/e",
        "D": "e*angstrom",
        "Dxyz": "e*angstrom",
        "quadrupole": "e*angstrom^2",
        "E": "hartree",
        "F": "hartree/angstrom",
    }
    names = train.keys() & valid.keys()
    declare = {name: reading for name, reading in readings.items() if name in names}
    declare |= {f"unit.{name}": unit for name, unit in units.items() if name in names}
    files = []
    with tempfile.TemporaryDirectory() as folder:
        for split, dataset in (("train", train), ("valid", valid)):
            files.append(Path(folder) / f"molecules_{split}.npz")
            arrays: dict[str, Any] = {name: _plain(array) for name, array in dataset.items()}
            np.savez(files[-1], **arrays)
        ingest(files, store, declare=declare, on_invalid="raise")


def _plain(array: np.ndarray) -> np.ndarray:
    array = np.asarray(array)
    # NPZ files hold text of a fixed width only; other kinds need pickle.
    return np.array([str(name) for name in array]) if array.dtype.kind in "OT" else array


def _padded(short: str, array: np.ndarray, natoms: int) -> np.ndarray:
    variable = VARIABLES[SHORT_NAMES[short]]
    if ATOM not in variable.dims:
        return array
    widths = [(0, natoms - array.shape[1] if dim == ATOM else 0) for dim in variable.dims]
    return np.pad(array, widths, constant_values=variable.fill_value)


def _check(what: str, wanted: int, there: int, of: str) -> None:
    if wanted > there:
        raise ConfigError.of(
            f"prepare_datasets, {what}",
            wrong=f"{wanted} is more than {there} ({of})",
            consequence="no dataset was made",
            remedy="Ask for fewer, or give more files or room",
        )
