"""Blocks of a source as the store keeps them: canonical names, units, and what is missing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from pipeline.adapters.columns import Block
from pipeline.adapters.protocol import Source
from pipeline.chemistry.arrays import (
    Atoms,
    Grid,
    finite_rows,
    numeric,
    read_atoms,
    read_grid,
    usable_points,
)
from pipeline.chemistry.centers import CENTERS, ORIGIN
from pipeline.chemistry.fitted_charges import FittedCharges, fit_charges
from pipeline.chemistry.radii import surface_distance
from pipeline.inference.interpretation import Interpretation, Reading
from pipeline.inference.lengths import PENETRATED
from pipeline.inference.quadrupoles import quadrupole_tensor
from pipeline.ingestion.derived_esp import ESP_ORIGIN, DerivedTally, derived_esp
from store_schema import VARIABLES

# How far from a whole number a sum of charges may be, to be taken for a net charge.
_FITTED_TOLERANCE = 0.2
_MONOPOLE_TOLERANCE = 0.1
# An ESP varies slowly: a few hundred of its points determine the charges behind it.
_MOST_POINTS, _LEAST_POINTS, _POINTS_AN_ATOM = 256, 128, 4


_ODD = (
    "the number of electrons is odd, as of radicals, or where an element or the net charge is wrong"
)


@dataclass(frozen=True)
class CanonicalBlock:
    """Consecutive molecules in canonical units.

    Attributes:
        values: Arrays by variable of the store.
        atoms: The atoms, in Å.
        grid: Grid in Å, ESP in hartree/e.
        fit: Charges that explain the ESP.
        given_n_atoms: What the file says the numbers of atoms are, where it does.
        declared: Variables whose unit the user declared.
        derived: ESPs that were evaluated from multipoles; None where that was not asked for.
    """

    values: dict[str, np.ndarray]
    atoms: Atoms
    grid: Grid
    fit: FittedCharges
    given_n_atoms: np.ndarray | None
    declared: frozenset[str] = frozenset()
    derived: DerivedTally | None = None

    @property
    def n_molecules(self) -> int:
        """Molecules in the block."""
        return len(self.atoms.numbers)

    def remarks(self) -> dict[str, int]:
        """Returns what the user should know of molecules that are stored, with their number."""
        return self._miscounted() | {_ODD: int(self._has_odd_electrons().sum())}

    def _has_odd_electrons(self) -> Bool[np.ndarray, " molecule"]:
        nuclei = np.where(self.atoms.mask, self.atoms.numbers, 0).sum(axis=1)
        charge = self.values.get("total_charge", np.full(len(nuclei), np.nan))
        return np.rint(nuclei - charge.astype(np.float64)) % 2 == 1

    def _miscounted(self) -> dict[str, int]:
        """Numbers of points that the points contradict."""
        grid = self.grid
        if grid.given is None or not grid.width:
            return {}
        counted = (grid.given > 0) & (grid.given <= grid.width)
        return {
            "padding is counted as grid points, and was left out": int(
                (counted & (grid.given > grid.n_grid)).sum()
            ),
            "there are points beyond the number of grid points, which were left out": int(
                (counted & (grid.given < grid.unpadded)).sum()
            ),
            "there are grid points where their number is 0, which were counted": int(
                ((grid.given == 0) & (grid.n_grid > 0)).sum()
            ),
        }

    def present(self) -> dict[str, int]:
        """Returns how many molecules have a value of each variable."""
        counts = {}
        for name, array in self.values.items():
            if array.dtype.kind == "f":
                flat = array.reshape(len(array), -1)
                there = np.isfinite(flat[:, :1]).any(axis=1)
                # Most molecules have their first value, and need no other look.
                there[~there] = np.isfinite(flat[~there]).any(axis=1)
                counts[name] = int(there.sum())
            else:
                counts[name] = len(array)
        return counts


@np.errstate(invalid="ignore", over="ignore")  # infinities are left for validation to find
def canonical(block: Block, interpretation: Interpretation, source: Source) -> CanonicalBlock:
    """Translates a block: names, units, padding, and the net charge where it is derived."""
    readings, columns, n = interpretation.readings, block.columns, block.n_molecules
    atoms = read_atoms(columns[readings["atomic_numbers"].key], columns[readings["positions"].key])
    atoms = atoms._replace(positions=atoms.positions * readings["positions"].factor)
    values = {
        stored: _shaped(numeric(columns[reading.key]), atoms, reading) * reading.factor
        for stored, reading in readings.items()
        if stored not in _OWN
    }
    grid, derived = _grid(block, interpretation, atoms), None
    if interpretation.esp_points:
        grid, origins, derived = derived_esp(values, atoms, grid, interpretation.esp_points)
        values[ESP_ORIGIN.name] = np.array(origins, dtype=object)
    fit = charges_that_explain(atoms, grid)
    values |= {
        "molecule_id": _identities(block, readings.get("molecule_id"), source),
        "n_atoms": atoms.mask.sum(axis=1),
        "n_grid": grid.n_grid,
        "atomic_numbers": atoms.numbers,
        "positions": atoms.positions,
    }
    has_esp = interpretation.brings()
    values |= {name: array for name, array in _grid_values(grid).items() if name in has_esp}
    for key, variable in interpretation.kept.items():
        text = variable.dtype == "str"
        values[variable.name] = columns[key].astype(str).astype(object) if text else columns[key]
    if interpretation.total_charge is not None and "total_charge" not in values:
        values["total_charge"] = np.full(n, interpretation.total_charge)
    elif interpretation.derives_charge:
        values["total_charge"] = _derived_charge(fit, values.get("monopoles"))
    if "dipole" in readings and readings["dipole"].about != ORIGIN:
        center = CENTERS[readings["dipole"].about](atoms)
        values["dipole"] += values["total_charge"][:, None] * center
    given = readings.get("n_atoms")
    counts = None if given is None else numeric(columns[given.key]).reshape(-1)
    return CanonicalBlock(
        _typed(values), atoms, grid, fit, counts, interpretation.declared, derived
    )


_GRID = ("vdw_surface", "esp", "electric_field", "n_grid", "esp_mask")
# Read in their own ways.
_OWN = (*_GRID, "molecule_id", "n_atoms", "atomic_numbers", "positions")


def _grid(block: Block, interpretation: Interpretation, atoms: Atoms) -> Grid:
    """The grid in Å, its ESP and field in the units of the store."""
    readings = interpretation.readings
    keys = {name: readings[name].key for name in _GRID if name in readings}
    grid = read_grid(block.columns, keys, block.n_molecules)
    if "vdw_surface" in readings:
        grid = grid._replace(points=_scaled(grid.points, readings["vdw_surface"]))
    if "esp" in readings:
        grid = grid._replace(esp=_scaled(grid.esp, readings["esp"]))
    if "electric_field" in readings and grid.field is not None:
        grid = grid._replace(field=_scaled(grid.field, readings["electric_field"]))
    if interpretation.drop_inside and "vdw_surface" in readings:
        grid = grid.keeping(surface_distance(atoms, grid.points) >= PENETRATED)
    return grid


def _scaled(values: np.ndarray, reading: Reading) -> np.ndarray:
    """Values in the unit of the store; the same array where the file has that."""
    return values if reading.factor == 1 else values * reading.factor


def _scalar(raw: np.ndarray, atoms: Atoms) -> np.ndarray:
    return raw.reshape(len(atoms.numbers))


def _vector(raw: np.ndarray, atoms: Atoms) -> np.ndarray:
    return raw.reshape(len(atoms.numbers), 3)


def _tensor(raw: np.ndarray, atoms: Atoms) -> np.ndarray:
    return raw.reshape(len(atoms.numbers), 3, 3)


def _per_atom(raw: np.ndarray, atoms: Atoms) -> np.ndarray:
    return atoms.per_atom(raw.reshape(len(raw), -1))


def _vector_per_atom(raw: np.ndarray, atoms: Atoms) -> np.ndarray:
    return atoms.per_atom(raw.reshape(len(raw), -1, 3))


def _tensor_per_atom(raw: np.ndarray, atoms: Atoms) -> np.ndarray:
    return atoms.per_atom(raw)


_SHAPED: dict[str, Callable[[np.ndarray, Atoms], np.ndarray]] = {
    "total_charge": _scalar,
    "energy": _scalar,
    "dipole_magnitude": _scalar,
    "molecular_dipole_vector": _vector,
    "center_of_mass": _vector,
    "quadrupole_tensor": _tensor,
    "polarizability": _tensor,
    "atomic_charges": _per_atom,
    "atomic_dipoles": _vector_per_atom,
    **dict.fromkeys(("atomic_quadrupoles", "buckingham_atomic_quadrupoles"), _tensor_per_atom),
    **dict.fromkeys(("atomic_octupoles", "buckingham_atomic_octupoles"), _tensor_per_atom),
    "forces": _vector_per_atom,
    "gradient": _vector_per_atom,
}


def _shaped(raw: np.ndarray, atoms: Atoms, reading: Reading) -> np.ndarray:
    """Values of a reading in the shape of its variable."""
    if reading.semantics == "quadrupole_components":
        return quadrupole_tensor(raw, reading.order)
    return _SHAPED[reading.semantics](raw, atoms)


def _grid_values(grid: Grid) -> dict[str, np.ndarray]:
    found = {"n_grid": grid.n_grid, "esp": grid.esp, "vdw_surface": grid.points}
    return found if grid.field is None else found | {"electric_field": grid.field}


def _identities(block: Block, reading: Reading | None, source: Source) -> np.ndarray:
    n = block.n_molecules
    names = [""] * n if reading is None else _texts(block.columns[reading.key].reshape(n))
    return np.array(
        [name or source.identity(block.start + row) for row, name in enumerate(names)],
        dtype=object,
    )


def _texts(names: np.ndarray) -> list[str]:
    if names.dtype.kind == "S":
        return [bytes(name).decode("utf-8", errors="replace") for name in names]
    return [str(name) for name in names]


def charges_that_explain(atoms: Atoms, grid: Grid) -> FittedCharges:
    """Returns charges that explain the ESP; none without one, or where a position is missing."""
    usable = usable_points(grid.points, grid.esp)
    usable &= (finite_rows(atoms.positions) | ~atoms.mask).all(axis=1)[:, None]
    if not usable.any():
        empty = np.zeros(atoms.mask.shape)
        none = np.full(len(empty), np.nan)
        return FittedCharges(empty, none, none, np.full(atoms.mask.shape, np.inf))
    return fit_charges(
        np.nan_to_num(atoms.positions),
        atoms.mask,
        grid.points,
        usable,
        grid.esp,
        stride=_stride(atoms, grid),
    )


def _stride(atoms: Atoms, grid: Grid) -> int:
    """Step between the points that charges are fitted to: enough of them in every molecule."""
    some = grid.n_grid[grid.n_grid > 0]
    if not some.size:
        return 1
    least = max(_LEAST_POINTS, _POINTS_AN_ATOM * atoms.mask.shape[1])
    return max(1, min(int(some.max()) // _MOST_POINTS, int(some.min()) // least))


def _derived_charge(
    fit: FittedCharges, monopoles: Float[np.ndarray, "molecule atom"] | None
) -> Float[np.ndarray, " molecule"]:
    """The whole number next to the sum of the charges; NaN where none is near."""
    fitted = np.where(np.isnan(fit.residual), np.nan, fit.charges.sum(axis=1))
    charge = _whole(fitted, _FITTED_TOLERANCE)
    if monopoles is not None:
        sums = np.where(np.nan_to_num(monopoles).any(axis=1), np.nansum(monopoles, axis=1), np.nan)
        charge = np.where(
            np.isnan(charge), _whole(sums, _MONOPOLE_TOLERANCE / _FITTED_TOLERANCE), charge
        )
    return charge


def _whole(
    sums: Float[np.ndarray, " molecule"], tolerance: float
) -> Float[np.ndarray, " molecule"]:
    near = np.abs(sums - np.rint(sums)) < tolerance
    return np.where(near, np.rint(sums), np.nan) + 0.0


def _typed(values: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Casts to the types of the store."""
    typed = {}
    for name, array in values.items():
        dtype = VARIABLES[name].dtype if name in VARIABLES else "str"
        typed[name] = array if dtype == "str" else array.astype(dtype, copy=False)
    return typed
