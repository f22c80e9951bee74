"""One molecule's calculation: what is asked, and the file that keeps the answer."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.chemistry.arrays import Atoms
from pipeline.chemistry.radii import CLOSEST_ATOMS, nearest_bonds
from pipeline.files import replaced
from pipeline.reference.calculation import CalculationError, Method
from pipeline.reference.shells import shell_points
from pipeline.structures import Geometry

# Units of what is written, by key.
UNITS = {
    "R": "angstrom",
    "vdw_surface": "angstrom",
    "esp": "hartree/e",
    "mono": "e",
    "dipole": "e*bohr",
    "quadrupole": "e*bohr^2",
    "atomic_dipoles": "e*bohr",
    "E": "hartree",
    "F": "hartree/bohr",
}


@dataclass(frozen=True)
class Task:
    """A molecule to calculate.

    Attributes:
        geometry: The molecule.
        file: Where its answer is kept.
        n_points: Points of its ESP.
        forces: Whether forces are wanted.
        seed: Of the points, apart from the molecule.
    """

    geometry: Geometry
    file: Path
    n_points: int
    forces: bool
    seed: int


def task_of(geometry: Geometry, folder: Path, method: Method, n_points: int, forces: bool) -> Task:
    """Returns the task of a molecule; the same one for the same question."""
    asked = hashlib.sha256(
        repr((method.level, n_points, forces, geometry.charge, geometry.multiplicity)).encode()
        + geometry.numbers.tobytes()
        + geometry.positions.tobytes()
    )
    name = hashlib.sha256(asked.digest() + geometry.name.encode(errors="replace")).hexdigest()
    seed = int.from_bytes(asked.digest()[:8], "little")
    return Task(geometry, folder / f"{name[:32]}.npz", n_points, forces, seed)


def _check_apart(geometry: Geometry) -> None:
    """Raises a CalculationError where atoms are nearer than any are."""
    mask = np.ones((1, len(geometry.numbers)), bool)
    atoms = Atoms(geometry.numbers[None], geometry.positions[None], mask)
    nearest = nearest_bonds(atoms)[0]
    if (nearest < CLOSEST_ATOMS).any():
        raise CalculationError(
            f"atoms {' and '.join(map(str, np.flatnonzero(nearest < CLOSEST_ATOMS)[:2]))} are "
            f"{nearest.min():.2f} times their covalent radii apart"
        )


def calculate(task: Task, method: Method) -> None:
    """Calculates a molecule and keeps what was found, whole or not at all.

    Raises:
        CalculationError: There is no answer.
    """
    geometry = task.geometry
    _check_apart(geometry)
    rng = np.random.default_rng(task.seed)
    points = shell_points(geometry.numbers, geometry.positions, task.n_points, rng)
    try:
        found = method(geometry, points, task.forces)
    except (ArithmeticError, np.linalg.LinAlgError, MemoryError) as error:
        raise CalculationError(f"{type(error).__name__}: {error}") from error
    columns: dict[str, Any] = {
        "id": np.array(geometry.name),
        "Z": geometry.numbers,
        "R": geometry.positions,
        "total_charge": np.array(geometry.charge or 0),
        "vdw_surface": points,
        "esp": found.esp,
        "mono": found.atomic.charges,
        "atomic_dipoles": found.atomic.dipoles,
        "atomic_quadrupoles": found.atomic.quadrupoles,
        "dipole": found.dipole,
        "E": np.array(found.energy),
    }
    if found.quadrupole is not None:
        columns["quadrupole"] = found.quadrupole
    if found.forces is not None:
        columns["F"] = found.forces
    unsound = [
        key for key, a in columns.items() if a.dtype.kind == "f" and not np.isfinite(a).all()
    ]
    if unsound:
        raise CalculationError(f"{' and '.join(unsound)} are not finite")
    with replaced(task.file) as partial:
        np.savez(partial, **columns)
