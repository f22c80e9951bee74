"""One molecule's calculation: what is asked, and the file that keeps the answer."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from jaxtyping import Float

from pipeline.chemistry.arrays import Atoms
from pipeline.chemistry.radii import CLOSEST_ATOMS, nearest_bonds
from pipeline.chemistry.shells import shell_points
from pipeline.files import replaced
from pipeline.reference.calculation import CalculationError, Method
from pipeline.structures import Geometry
from store_schema.units import BOHR_IN_ANGSTROM

# Units of what is written, by key.
UNITS = {
    "R": "angstrom",
    "vdw_surface": "angstrom",
    "esp": "hartree/e",
    "electric_field": "hartree/e/bohr",
    "mono": "e",
    "dipole": "e*bohr",
    "quadrupole": "e*bohr^2",
    "atomic_dipoles": "e*bohr",
    "atomic_quadrupoles": "e*bohr^2",
    "atomic_octupoles": "e*bohr^3",
    "E": "hartree",
    "F": "hartree/bohr",
}


# Å between a point and its neighbours: 2e-5 of a field, and above what rounding makes of an ESP.
_STEP: Final = 0.01


@dataclass(frozen=True)
class Task:
    """A molecule to calculate.

    Attributes:
        geometry: The molecule.
        file: Where its answer is kept.
        n_points: Points of its ESP.
        forces: Whether forces are wanted.
        field: Whether the electric field is wanted at the points.
        seed: Of the points, apart from the molecule.
    """

    geometry: Geometry
    file: Path
    n_points: int
    forces: bool
    field: bool
    seed: int


def task_of(
    geometry: Geometry,
    folder: Path,
    method: Method,
    n_points: int,
    *,
    forces: bool = False,
    field: bool = False,
) -> Task:
    """Returns the task of a molecule; the same one for the same question."""
    question = (method.level, n_points, forces, geometry.charge, geometry.multiplicity)
    asked = hashlib.sha256(
        repr((*question, "field") if field else question).encode()
        + geometry.numbers.tobytes()
        + geometry.positions.tobytes()
    )
    name = hashlib.sha256(asked.digest() + geometry.name.encode(errors="replace")).hexdigest()
    seed = int.from_bytes(asked.digest()[:8], "little")
    return Task(geometry, folder / f"{name[:32]}.npz", n_points, forces, field, seed)


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


def _around(points: Float[np.ndarray, "point 3"]) -> Float[np.ndarray, "place 3"]:
    """Returns points, and behind them the neighbours by which the slope at each is measured."""
    steps = _STEP * np.concatenate([np.eye(3), -np.eye(3)])
    return np.concatenate([points, *(points + step for step in steps)])


def _field(esp: Float[np.ndarray, " place"], n_points: int) -> Float[np.ndarray, "point 3"]:
    """Returns E = -dV/dr by central differences, hartree/e/bohr."""
    ahead, behind = esp[n_points:].reshape(2, 3, n_points)
    return np.asarray((behind - ahead).T * BOHR_IN_ANGSTROM / (2 * _STEP))


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
        places = _around(points) if task.field else points
        found = method(geometry, places, task.forces)
    except (ArithmeticError, np.linalg.LinAlgError, MemoryError) as error:
        raise CalculationError(f"{type(error).__name__}: {error}") from error
    columns: dict[str, Any] = {
        "id": np.array(geometry.name),
        "Z": geometry.numbers,
        "R": geometry.positions,
        "total_charge": np.array(geometry.charge or 0),
        "vdw_surface": points,
        "esp": found.esp[: len(points)],
        "mono": found.atomic.charges,
        "atomic_dipoles": found.atomic.dipoles,
        "atomic_quadrupoles": found.atomic.quadrupoles,
        "dipole": found.dipole,
        "E": np.array(found.energy),
    }
    if found.atomic.octupoles is not None:
        columns["atomic_octupoles"] = found.atomic.octupoles
    if found.quadrupole is not None:
        columns["quadrupole"] = found.quadrupole
    if task.field:
        columns["electric_field"] = _field(found.esp, len(points))
    if found.forces is not None:
        columns["F"] = found.forces
    unsound = [
        key for key, a in columns.items() if a.dtype.kind == "f" and not np.isfinite(a).all()
    ]
    if unsound:
        raise CalculationError(f"{' and '.join(unsound)} are not finite")
    with replaced(task.file) as partial:
        np.savez(partial, **columns)
