"""Writes files as somebody might: in any unit, zero of energy, sign, layout and wording.

Some have factors that no unit has.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import xarray as xr
from ase.data import atomic_masses, chemical_symbols

from tests.pipeline.adapters.written_formats import HDF5, XYZ_NAMES, extended_xyz, flat_hdf5
from tests.pipeline.inference.force_field import Surface, sampled
from tests.pipeline.inference.open_units import (
    ATOMS,
    CORRELATION,
    DIPOLE,
    ENERGY,
    FORCE,
    LENGTH,
    POTENTIAL,
    QUADRUPOLE,
    RARE,
    VALENCE,
)
from tests.pipeline.inference.written import Written, fit

# How near a factor of no unit may come to one of a unit, as a logarithm: what lies within the
# errors of a unit cannot be told from it.
APART = 0.25
# Charges of two partitions differ by as much.
PARTITIONS = 0.7
# A usual unit is drawn so many times as often as a rare one.
_USUAL = 4


@dataclass
class Case:
    """A file, what is true of it, and what a user who knows would declare.

    Attributes:
        written: The file and the truth.
        answers: Declarations that are true, by the words that a question names them with.
        unanswerable: No declaration makes it right: a factor that no unit has.
    """

    written: Written
    answers: dict[str, str] = field(default_factory=dict)
    unanswerable: bool = False


class Author:
    """Writes a file as somebody might."""

    def __init__(self, records: xr.Dataset, rng: np.random.Generator) -> None:
        self.data, self.rng = records, rng

    def choose(self, kind: str, options: Iterable[object]) -> str:
        options = list(options)
        choice = str(options[self.rng.integers(len(options))])
        self.case.written.kind[kind] = choice
        return choice

    def write(self, folder: Path) -> Case:
        self.case = Case(Written("", np.zeros(0, int)))
        world = self.choose("world", ["molecules"] * 6 + ["motion"] * 4 + ["scan", "few", "pairs"])
        columns = getattr(self, world)()
        columns = self.worded(self.laid_out(columns))
        self.case.written.source = str(self.saved(columns, folder / "any.npz"))
        self.case.written.keys = list(columns)
        return self.case

    def saved(self, columns: dict[str, np.ndarray], path: Path) -> Path:
        """Writes the columns in one of the formats that can hold them."""
        formats = {"NPZ": _npz} | HDF5
        if self.case.written.kind["layout"] == "concatenated":
            formats = {"NPZ": _npz, "HDF5, arrays": flat_hdf5}
        elif {"Z", "R"} <= columns.keys() and not {"esp", "energy_unit"} & columns.keys():
            formats |= {"extended XYZ": extended_xyz}
        write = formats[self.choose("format", [*["NPZ"] * 4, *[*formats] * 2])]
        if write is extended_xyz:
            self.rename({"R": XYZ_NAMES["R"]})
        return write(path, columns, self.counts, self.n_points(columns))

    def n_points(self, columns: dict[str, np.ndarray]) -> np.ndarray | None:
        """Points of each molecule, with those that a mask leaves out."""
        if "esp" not in columns:
            return None
        return self.data.n_grid.to_numpy()[self.case.written.rows].astype(int)

    # Worlds: what the molecules are.

    def molecules(self) -> dict[str, np.ndarray]:
        """Different molecules and ions, with what a calculation gives of their charges."""
        return self.electric(int(self.rng.integers(6, 60)))

    def few(self) -> dict[str, np.ndarray]:
        """One to three molecules."""
        return self.electric(int(self.rng.integers(1, 4)))

    def electric(self, n: int) -> dict[str, np.ndarray]:
        size, charge = (self.data[name].to_numpy() for name in ("n_atoms", "total_charge"))
        finite = np.isfinite(self.data.monopoles.to_numpy()).any(axis=1) & (size > 1)
        pool = np.flatnonzero(finite)
        ions = self.choose("ions", ["as they come", "none", "half"])
        if ions == "none":
            pool = pool[charge[pool] == 0]
        rows = self.rng.choice(pool, n, replace=False)
        if ions == "half":
            some = self.rng.choice(pool[charge[pool] != 0], max(1, n // 2), replace=False)
            rows = np.unique(np.concatenate([rows[: n - len(some)], some]))
        self.case.written.rows = rows
        self.counts = size[rows].astype(int)
        self.moved = np.zeros((len(rows), 1, 3))
        if self.choose("place", ["as it is", "as it is", "anywhere"]) == "anywhere":
            self.moved = self.rng.normal(scale=1.0, size=self.moved.shape)
        positions = self.get("positions") + self.moved
        columns = self.structure(self.get("atomic_numbers"), positions)
        with_esp = self.choose("ESP", ["yes", "yes", "yes", "no"]) == "yes"
        if with_esp:
            columns |= self.potential()
        if self.choose("mono", ["yes", "no"]) == "yes" or not with_esp:
            factor, _ = self.scaled("charge", "monopoles", {"e": 1.0}, "mono")
            truth = self.trimmed("monopoles", self.counts)
            self.case.written.truth["monopoles"] = truth
            columns["mono"] = fit(truth * factor, truth.shape[1], 0.0)
        columns |= self.moments(with_esp)
        if self.choose("charge", ["yes", "no"]) == "yes":
            columns["Q"] = self.get("total_charge")
        if with_esp or "Q" in columns or "mono" in columns:
            self.case.written.truth["total_charge"] = self.get("total_charge")
        return columns

    def potential(self) -> dict[str, np.ndarray]:
        n_grid = self.data.n_grid.to_numpy()[self.case.written.rows].astype(int)
        grid, esp = (self.trimmed(name, n_grid) for name in ("vdw_surface", "esp"))
        grid = grid + self.moved
        length = self.unit("grid", "vdw_surface", dict(list(LENGTH.items())[:4]))
        factor, _ = self.scaled("ESP", "esp", POTENTIAL, "esp", signs=(1,) * 9 + (-1,))
        truth = self.case.written.truth
        truth["vdw_surface"], truth["esp"] = grid, esp
        columns = {
            "vdw_surface": fit(grid * length, grid.shape[1], 0.0),
            "esp": fit(esp * factor, esp.shape[1], 0.0),
        }
        if self.choose("mask", ["no", "no", "no", "yes"]) == "yes":
            dropped = self.rng.random(esp.shape) < 0.1
            columns["espMask"] = ~dropped & np.isfinite(esp)
            columns["esp"][dropped] = 0.0
            truth["esp"], truth["vdw_surface"] = (
                _without(values, dropped) for values in (esp, grid)
            )
        return columns

    def moments(self, with_esp: bool) -> dict[str, np.ndarray]:
        columns: dict[str, np.ndarray] = {}
        dipole = self.get("dipole") + self.get("total_charge")[:, None] * self.moved[:, 0]
        kind = self.choose("D", ["none", "vector", "magnitude"])
        if kind != "none" and np.isfinite(dipole).all():
            signs = (1,) * 9 + (-1,) if kind == "vector" else (1,)
            factor, _ = self.scaled("dipole", "dipole", DIPOLE, "D", signs=signs)
            columns["D"] = self.about(dipole, kind == "vector") * factor
        tensor = self.get("quadrupole")
        if (
            with_esp
            and np.isfinite(tensor).all()
            and not self.moved.any()
            and self.choose("quad", ["no", "yes"]) == "yes"
        ):
            factor = self.unit("quadrupole", "quadrupole", QUADRUPOLE, "quadrupole")
            self.case.written.truth["quadrupole"] = tensor
            columns["quadrupole"] = tensor * factor
        return columns

    def about(self, dipole: np.ndarray, vector: bool) -> np.ndarray:
        """Dipoles, or their magnitudes, as programs write them: about some point."""
        truth, answers = self.case.written.truth, self.case.answers
        answers["D"] = "molecular_dipole_vector" if vector else "dipole_magnitude"
        points = ["origin", "origin", "origin", "center_of_mass", "center_of_nuclear_charge"]
        point = self.choose("point of D", points)
        answers["point.D"] = point
        positions, numbers = np.nan_to_num(truth["positions"]), self.get("atomic_numbers")
        numbers = np.nan_to_num(numbers[:, : positions.shape[1]]).astype(int)
        numbers[np.isnan(truth["positions"][..., 0])] = 0
        weights = {
            "origin": np.zeros(numbers.shape),
            "center_of_mass": np.where(numbers > 0, atomic_masses[numbers], 0.0),
            "center_of_nuclear_charge": numbers.astype(float),
        }[point]
        center = (weights[..., None] * positions).sum(axis=1)
        center /= np.maximum(weights.sum(axis=1), 1e-9)[:, None]
        given = dipole - self.get("total_charge")[:, None] * center
        if vector:
            truth["dipole"] = dipole
            return given
        size = np.linalg.norm(given, axis=1)
        if np.abs(size - np.linalg.norm(dipole, axis=1)).max() < _MOVED:
            truth["dipole_magnitude"] = size
        else:  # which nothing moves back to the origin
            answers["D"] = "unknown"
        return size

    def motion(self) -> dict[str, np.ndarray]:
        """Geometries of one molecule or of several, displaced or at their minima."""
        minima = self.choose("geometries", ["displaced"] * 4 + ["minima"]) == "minima"
        n_species = int(self.choose("species", [1, 1, 4]))
        surfaces = [Surface.random(self.data, self.rng) for _ in range(n_species)]
        return self.moving([sampled(s, self.rng, 48 // n_species, minima) for s in surfaces])

    def scan(self) -> dict[str, np.ndarray]:
        """A diatomic molecule from its bond to far apart."""
        surface = Surface.diatomic(self.rng)
        (rest,) = surface.lengths
        length = np.concatenate([np.linspace(0.85 * rest, 2.0, 24), np.geomspace(2.1, 40.0, 16)])
        return self.moving([surface.along(length)])

    def pairs(self) -> dict[str, np.ndarray]:
        """Two rigid molecules at several distances, with the energy between them."""
        return self.moving([Surface.pair(self.data, self.rng)], interaction=True)

    def moving(self, parts, *, interaction: bool = False) -> dict[str, np.ndarray]:
        width = max(part.numbers.shape[1] for part in parts)
        numbers, positions, forces = (
            np.concatenate([_wide(getattr(part, name), width) for part in parts])
            for name in ("numbers", "positions", "forces")
        )
        energy = np.concatenate([part.energies for part in parts])
        self.counts = (numbers > 0).sum(axis=1)
        n = len(numbers)
        self.case.written.rows = np.arange(n)
        columns = self.structure(numbers, positions)
        what = self.choose("E", ["none", "yes", "yes"])
        energies = what != "none"
        if energies:
            zero = "interaction" if interaction else self.choose("zero", _ZEROS)
            self.case.written.kind["zero"] = zero
            given = energy + _offset(zero, numbers, energy)
            factor, unit = self.scaled("energy", "energy", ENERGY, "E")
            self.case.written.truth["energy"] = given
            columns["E"] = given * factor
        if self.choose("F", ["yes", "yes", "no"] if energies else ["yes"]) == "yes":
            own = {k: v for k, v in FORCE.items() if energies and k.startswith(f"{unit}/")}
            table = own if own and self.rng.random() < 0.9 else FORCE
            factor, _ = self.scaled("force", "forces", table, "F")
            sign = self.choose("F is", ["forces", "forces", "gradient"])
            self.case.answers["F"] = sign
            real = np.arange(width) < self.counts[:, None]
            self.case.written.truth["forces"] = np.where(real[..., None], forces, np.nan)
            columns["F"] = forces * factor * (-1 if sign == "gradient" else 1)
        return columns

    # What is common to all.

    def structure(self, numbers: np.ndarray, positions: np.ndarray) -> dict[str, np.ndarray]:
        width = int(self.counts.max())
        real = np.arange(width) < self.counts[:, None]
        truth = np.where(real[..., None], positions[:, :width], np.nan)
        self.case.written.truth["positions"] = truth
        length = self.unit("length", "positions", LENGTH, "R")
        columns = {
            "Z": np.where(real, numbers[:, :width], 0).astype(int),
            "R": np.nan_to_num(truth) * length,
        }
        if self.choose("N", ["yes", "no"]) == "yes":
            columns["N"] = self.counts
        return columns

    def laid_out(self, columns: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The same in another layout."""
        layout = self.choose(
            "layout", ["padded"] * 6 + ["concatenated", "symbols", "symbols", "renamed"]
        )
        if layout == "concatenated" and len(self.counts) > 1:
            real = np.arange(columns["Z"].shape[1]) < self.counts[:, None]
            for key in {"Z", "R", "F", "mono"} & columns.keys():
                columns[key] = columns[key][real]
            columns["N"] = self.counts
        elif layout == "symbols":
            names = np.array(["", *_SYMBOLS])
            columns["Z"] = names[columns["Z"]]
            columns = {{"Z": "species", "R": "coord"}.get(k, k): v for k, v in columns.items()}
            self.rename({"R": "coord", "Z": "species"})
        elif layout == "renamed":
            columns = {{"Z": "nuc", "R": "where"}.get(k, k): v for k, v in columns.items()}
            self.rename({"R": "where", "Z": "nuc"})
            self.case.answers |= {"where": "positions", "nuc": "atomic_numbers"}
        return columns

    def rename(self, names: dict[str, str]) -> None:
        for old, new in names.items():
            if f"unit.{old}" in self.case.answers:
                self.case.answers[f"unit.{new}"] = self.case.answers.pop(f"unit.{old}")

    def worded(self, columns: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The file says its units itself, now and then; seldom wrongly."""
        unit = self.case.written.kind.get("unit of energy", "")
        if self.choose("words", ["no", "no", "yes"]) != "yes":
            return columns
        if "E" in columns and not self.case.unanswerable and unit:
            # What nothing contradicts cannot be told from the truth.
            told = self.case.written.kind["zero"] in ("total", "atoms")
            wrong = self.choose("word is", ["true"] * 5 + ["wrong"] * told) == "wrong"
            said = "eV" if wrong and unit != "eV" else "hartree" if wrong else unit
            if self.choose("said in", ["entry", "key"]) == "entry":
                columns["energy_unit"] = np.array(said)
                if self.choose("length said", ["no", "yes"]) == "yes":
                    columns["length_unit"] = np.array(self.case.written.kind["unit of length"])
            elif said in ("eV", "hartree", "kcal/mol", "kJ/mol"):
                columns[f"E_{said.replace('/mol', '')}"] = columns.pop("E")
                self.rename({"E": f"E_{said.replace('/mol', '')}"})
        return columns

    def unit(self, what: str, variable: str, table: dict[str, float], key: str = "") -> float:
        """Draws a unit, and notes what a user would declare."""
        usual = [unit for unit in table if not RARE & set(unit.split("/"))]
        unit = self.choose(f"unit of {what}", [*usual * _USUAL, *sorted(table.keys() - {*usual})])
        self.case.answers[f"unit.{key or variable}"] = unit
        return table[unit]

    def scaled(self, what, variable, table, key, signs=(1,)) -> tuple[float, str]:
        """Draws a unit, now and then with the opposite sign or with a factor of none."""
        factor = self.unit(what, variable, table, key)
        unit = self.case.written.kind[f"unit of {what}"]
        if self.rng.random() < 0.04:
            apart = PARTITIONS if what == "charge" else APART
            factor = self.nonsense(FORCE if what == "force" else table, apart)
            self.case.written.kind[f"factor of {what}"] = f"{factor / table[unit]:.3g}"
            self.case.unanswerable = True
            del self.case.answers[f"unit.{key}"]
        sign = int(self.rng.choice(signs))
        if sign < 0:
            self.case.written.kind[f"sign of {what}"] = "opposite"
            if f"unit.{key}" in self.case.answers:
                self.case.answers[f"unit.{key}"] = f"-{unit}"
        return sign * factor, unit

    def nonsense(self, table: dict[str, float], apart: float) -> float:
        """Draws a factor that is none of a unit's, nor near one."""
        usual = [np.log(factor) for factor in table.values() if 1e-6 < factor < 1e7]
        usual = usual or [0.0]
        while True:
            drawn = self.rng.uniform(min(usual) - 1, max(usual) + 1)
            if min(abs(drawn - each) for each in usual) > apart:
                return float(np.exp(drawn))

    def get(self, name: str) -> np.ndarray:
        return self.data[name].to_numpy()[self.case.written.rows].astype(np.float64)

    def trimmed(self, name: str, counts: np.ndarray) -> np.ndarray:
        values = self.get(name)[:, : counts.max()]
        values[np.arange(values.shape[1]) >= counts[:, None]] = np.nan
        return values


_ZEROS = ["total"] * 4 + ["atoms", "mean", "minimum", "valence"] * 2 + ["correlation"]


def _npz(path: Path, columns: dict[str, np.ndarray], *_: object) -> Path:
    np.savez(path, **columns)
    return path


# In e·Å: less than the tolerance of a dipole.
_MOVED = 0.01
_SYMBOLS = [*chemical_symbols[1:19]]


def _wide(values: np.ndarray, width: int) -> np.ndarray:
    out = np.zeros((len(values), width, *values.shape[2:]), values.dtype)
    out[:, : values.shape[1]] = values
    return out


def _without(values: np.ndarray, dropped: np.ndarray) -> np.ndarray:
    """Values without those that are masked, the others moved up."""
    keep = ~dropped & np.isfinite(values.reshape(*dropped.shape, -1)).all(axis=-1)
    out = np.full_like(values, np.nan)
    for row, kept in enumerate(keep):
        out[row, : kept.sum()] = values[row][kept]
    return out[:, : keep.sum(axis=1).max()]


def _offset(zero: str, numbers: np.ndarray, energy: np.ndarray) -> np.ndarray:
    """What is added to energies above the minimum of each molecule, in hartree."""
    if zero in ("minimum", "interaction"):
        return np.full(len(energy), -energy.min() if zero == "minimum" else 0.0)
    if zero == "mean":
        return np.full(len(energy), -energy.mean())
    binding = {1: 0.105, 6: 0.25, 7: 0.165, 8: 0.16, 9: 0.12, 16: 0.085, 17: 0.065}
    table = {"total": ATOMS, "valence": VALENCE, "correlation": CORRELATION}.get(zero, {})
    each = np.zeros(int(numbers.max()) + 1)
    for number in np.unique(numbers[numbers > 0]):
        bound = 0.0 if zero == "correlation" else binding[int(number)]
        each[number] = table.get(int(number), 0.0) - bound
    return each[numbers].sum(axis=1)
