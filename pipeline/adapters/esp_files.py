"""What quantum chemistry programs write of a molecule's ESP: a molecule in each file."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from pipeline.adapters.frame_files import XyzFile, charge_value
from pipeline.chemistry.arrays import Atoms
from pipeline.chemistry.radii import surface_distance
from store_schema.units import BOHR_IN_ANGSTROM

# Of a cube, the points in a band around the molecule are read, in van der Waals radii: nearer
# ones are inside it, where no charges explain the ESP. So many of them say as much as all.
_BAND: Final = (1.4, 2.2)
_MOST_POINTS: Final = 2000
_LEAST_POINTS: Final = 20
_ANGSTROM: Final = {"positions": "angstrom", "esp_grid": "angstrom", "esp": "hartree/e"}
# A table of atoms: a title, four lines of heads, and a line per atom.
_ORIENTATION: Final = re.compile(
    r"(?:Standard|Input|Z-Matrix) orientation:.*\n(?:.*\n){4}((?:[ \t]+\d.*\n)+)"
)
_NUMBER: Final = r"(-?\d+\.\d+(?:[DEde][-+]?\d+)?)"


class EspFormat(NamedTuple):
    """A format that has one molecule per file.

    Attributes:
        convention: Its name.
        read: Reads a file.
        units: Units of what it returns, by key; the format defines them.
    """

    convention: str
    read: Callable[[Path], dict[str, np.ndarray]]
    units: Mapping[str, str]


def read_cube(path: Path) -> dict[str, np.ndarray]:
    """Reads the points of a Gaussian cube that lie in a band around the molecule.

    Raises:
        ValueError: The box ends too near the atoms.
    """
    from ase.io.cube import read_cube as read

    with path.open(encoding="utf-8", errors="replace") as file:
        cube = read(file)
    atoms, values = cube["atoms"], np.asarray(cube["data"], np.float64)
    steps = np.asarray(cube["spacing"])
    corners = np.stack(np.unravel_index(np.arange(values.size), values.shape), axis=1)
    points = np.asarray(cube["origin"])[:3] + corners @ steps
    near = _in_band(atoms.numbers, atoms.positions, points)
    if len(near) < _LEAST_POINTS:
        raise ValueError(
            f"the box has {len(near)} points between {_BAND[0]} and {_BAND[1]} van der Waals "
            "radii from the atoms; a larger one is needed"
        )
    if len(near) > _MOST_POINTS:
        near = np.sort(np.random.default_rng(0).choice(near, _MOST_POINTS, replace=False))
    return {
        "numbers": atoms.numbers,
        "positions": atoms.positions,
        "esp_grid": points[near],
        "esp": values.ravel()[near],
    }


def _in_band(
    numbers: Int[np.ndarray, " atom"],
    positions: Float[np.ndarray, "atom 3"],
    points: Float[np.ndarray, "point 3"],
) -> Int[np.ndarray, " near"]:
    atoms = Atoms(numbers[None], positions[None], np.ones((1, len(numbers)), bool))
    distance = surface_distance(atoms, points[None])[0]
    return np.flatnonzero((distance >= _BAND[0]) & (distance <= _BAND[1]))


def read_gaussian(path: Path) -> dict[str, np.ndarray]:
    """Reads the ESP that Gaussian prints with ``IOp(6/33=2)``, and the last geometry it is of.

    Raises:
        ValueError: It is no output of Gaussian, or has no ESP.
    """
    text = path.read_text(encoding="utf-8", errors="replace")
    if "Gaussian" not in text[:100_000]:
        raise ValueError("no output of Gaussian")
    last = text[max(0, text.rfind("Electrostatic Properties Using")) :]
    values = re.findall(rf"^\s*\d+ Fit\s+{_NUMBER}", last, re.MULTILINE)
    points, atoms = _centers("ESP Fit Center", last), _centers("Atomic Center", last)
    if not values or len(points) != len(values):
        raise ValueError(
            f"{len(values)} values of an ESP at {len(points)} points; IOp(6/33=2) writes both"
        )
    numbers, positions = _orientation(text, atoms)
    found = {
        "numbers": numbers,
        "positions": positions,
        "esp_grid": points,
        "esp": np.array([_float(value) for value in values]),
    }
    if charges := re.findall(r"^\s*Charge\s*=\s*(-?\d+)\s+Multiplicity", text, re.MULTILINE):
        found["total_charge"] = np.array(int(charges[-1]))
    if energies := re.findall(rf"SCF Done:\s+E\(\S+\)\s*=\s*{_NUMBER}", text):
        found["energy"] = np.array(_float(energies[-1]))
    dipoles = re.findall(
        rf"Dipole moment \(field-independent basis, Debye\):\s+X=\s*{_NUMBER}"
        rf"\s+Y=\s*{_NUMBER}\s+Z=\s*{_NUMBER}",
        text,
    )
    if dipoles:
        found["dipole"] = np.array([_float(value) for value in dipoles[-1]])
    return found


def _centers(name: str, text: str) -> Float[np.ndarray, "point 3"]:
    found = re.findall(rf"{name}\s+\d+ is at\s*{_NUMBER}\s*{_NUMBER}\s*{_NUMBER}", text)
    return np.array([[_float(value) for value in row] for row in found]).reshape(-1, 3)


def _orientation(
    text: str, centers: Float[np.ndarray, "center 3"]
) -> tuple[Int[np.ndarray, " atom"], Float[np.ndarray, "atom 3"]]:
    """Atoms of the last table whose places are those that the ESP was calculated around.

    Raises:
        ValueError: There is none.
    """
    tables = re.findall(
        r"(?:Standard|Input|Z-Matrix) orientation:[^\n]*\n(?:[^\n]*\n){4}((?:\s+\d+[^\n]*\n)+)",
        text,
    )
    for table in reversed(tables):
        rows = [line.split() for line in table.splitlines() if line.strip()]
        numbers = np.array([int(row[1]) for row in rows])
        positions = np.array([[float(value) for value in row[-3:]] for row in rows])
        if centers.shape == positions.shape and np.allclose(centers, positions, atol=1e-4):
            return numbers, positions
    raise ValueError("no table of atoms lies where the ESP was calculated")


def read_orca(path: Path) -> dict[str, np.ndarray]:
    """Reads what ``orca_vpot`` wrote, with the XYZ file of the same name.

    Raises:
        ValueError: It is none, or there is no such XYZ file.
    """
    with path.open(encoding="utf-8", errors="replace") as file:
        count = int(file.readline().split()[0])
        rows = np.loadtxt(file, ndmin=2, max_rows=count)
    if rows.shape != (count, 4):
        raise ValueError(f"{rows.shape[0]} rows of {rows.shape[1]} where {count} of 4 should be")
    names = [path.with_suffix(".xyz"), Path(f"{path}.xyz"), *_only_xyz(path)]
    return {
        **_structure(next((name for name in names if name.is_file()), names[0])),
        "esp_grid": rows[:, :3] * BOHR_IN_ANGSTROM,
        "esp": rows[:, 3],
    }


def read_psi4(path: Path) -> dict[str, np.ndarray]:
    """Reads ``grid_esp.dat`` of Psi4, with ``grid.dat`` and the XYZ file of its folder.

    Raises:
        ValueError: One of them is missing, or they are of different length.
    """
    grid = path.with_name("grid.dat")
    if not grid.is_file():  # nor a pipe or a device, which have no end
        raise ValueError(f"there is no {grid.name} in its folder, for its points")
    esp, points = np.loadtxt(path, ndmin=1), np.loadtxt(grid, ndmin=2)
    if points.shape != (len(esp), 3):
        raise ValueError(f"{len(esp)} values of the ESP, but grid.dat is of shape {points.shape}")
    structures = _only_xyz(path)
    if not structures:
        raise ValueError(f"there is not one XYZ file in {path.parent}, for its atoms")
    return {**_structure(structures[0]), "esp_grid": points, "esp": esp}


def _only_xyz(path: Path) -> list[Path]:
    """The XYZ file of a folder, if there is just one."""
    found = list(path.absolute().parent.glob("*.xyz"))
    return found if len(found) == 1 else []


def _structure(path: Path) -> dict[str, np.ndarray]:
    """The atoms of an XYZ file of one frame, with its net charge if it says one."""
    if not path.is_file():
        raise ValueError(f"there is no {path.name} in its folder, for its atoms")
    file = XyzFile(path)
    if len(file) != 1:
        raise ValueError(f"{path.name} has {len(file)} frames, and should have one")
    atoms, info, _ = file.frame(0)
    found = {"numbers": atoms.numbers, "positions": atoms.positions}
    if "charge" in info:
        found["total_charge"] = np.array(charge_value("charge", info["charge"]))
    return found


def _float(text: str) -> float:
    return float(text.upper().replace("D", "E"))


_GAUSSIAN_UNITS: Final = {**_ANGSTROM, "energy": "hartree", "dipole": "debye"}
# Of Psi4, the grid is in the unit of its input, which the file does not say.
_PSI4_UNITS: Final = {"positions": "angstrom", "esp": "hartree/e"}
ESP_FILES: Final[dict[str, EspFormat]] = {
    **dict.fromkeys((".cube", ".cub"), EspFormat("cube", read_cube, _ANGSTROM)),
    ".log": EspFormat("gaussian", read_gaussian, _GAUSSIAN_UNITS),
    ".vpot": EspFormat("orca", read_orca, _ANGSTROM),
    ".dat": EspFormat("psi4", read_psi4, _PSI4_UNITS),
}
