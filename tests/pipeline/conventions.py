"""Random conventions: real molecules written the way people write them, with the truth kept.

Names, shapes, paddings, units, what is present, and the number of atoms are drawn at random.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import xarray as xr

from store_schema.semantics import QUADRUPOLE_COMPONENTS

# Units written out again, so that a wrong factor in the package does not cancel.
BOHR = 0.529177210903
LENGTH = {"angstrom": 1.0, "bohr": 1 / BOHR}
POTENTIAL = {"hartree/e": 1.0, "kcal/mol/e": 627.509474, "eV/e": 27.211386245988}
DIPOLE = {"e*angstrom": 1.0, "e*bohr": 1 / BOHR, "debye": 1 / 0.20819434}
QUADRUPOLE = {
    "e*angstrom^2": 1.0,
    "e*bohr^2": 1 / BOHR**2,
    "debye*angstrom": 1 / 0.20819434,
}
ENERGY = {"hartree": 1.0, "eV": 27.211386245988, "kcal/mol": 627.509474}
FORCE = {
    "hartree/angstrom": 1.0,
    "hartree/bohr": BOHR,
    "eV/angstrom": 27.211386245988,
    "kcal/mol/angstrom": 627.509474,
}
PADDING = (0.0, 10000.0, 1e6, np.nan)
# Atomization takes about this much an atom, in hartree.
BINDING = 0.16
MASS = {1: 1.008, 6: 12.011, 7: 14.007, 8: 15.999, 9: 18.998, 16: 32.06, 17: 35.45}
GAUSSIAN_ORDER = ((0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 2))
SETS = ("train", "valid", "test")


@dataclass
class Written:
    """What was written.

    Attributes:
        source: What to hand to ingest.
        rows: Molecules of the dataset, in the order they were written.
        kind: Choices made, for the table of results.
        truth: Expected value of each variable, NaN padded.
        keys: Keys of each file.
    """

    source: str
    rows: np.ndarray
    kind: dict[str, str] = field(default_factory=dict)
    truth: dict[str, np.ndarray] = field(default_factory=dict)
    keys: list[str] = field(default_factory=list)


class Writer:
    """Writes molecules of a dataset in a random convention."""

    def __init__(self, dataset: xr.Dataset, rng: np.random.Generator) -> None:
        self.data, self.rng = dataset, rng
        numbers, energy = dataset.atomic_numbers.to_numpy(), dataset.energy.to_numpy()
        there = np.isfinite(energy)
        # Energies of free atoms that make molecules bound by about what they are.
        counts = np.stack([(numbers == z).sum(axis=1) for z in MASS], axis=1)
        bound = energy[there] + BINDING * counts[there].sum(axis=1)
        self.above_free = energy - counts @ np.linalg.lstsq(counts[there], bound, rcond=None)[0]

    def choose(self, kind: str, options) -> object:
        options = list(options)
        choice = options[self.rng.integers(len(options))]
        self.out.kind[kind] = str(choice)
        return choice

    def write(self, folder: Path) -> Written:
        self.out = Written("", self.pick())
        files = ["padded", "padded", "padded", "roles", "sets", "single"]
        if self.with_forces or not self.with_esp:
            files.remove("single")
        if self.choose("files", files) == "single":
            return self.single(folder)
        columns = self.padded()
        if self.out.kind["files"] == "sets":
            return self.sets(folder, columns)
        if self.out.kind["files"] == "padded":
            self.save(folder / "any.npz", columns)
            self.out.source = str(folder / "any.npz")
            return self.out
        if not self.grid:  # nothing to put into a second file
            self.out.kind["files"] = "padded"
            self.save(folder / "any.npz", columns)
            self.out.source = str(folder / "any.npz")
            return self.out
        structure = {k: v for k, v in columns.items() if k in self.structure}
        grid = {k: v for k, v in columns.items() if k in self.grid}
        order = np.arange(len(self.out.rows))
        if self.choose("row order", ["same", "shuffled"]) == "shuffled":
            order = self.rng.permutation(order)
        shuffled = {
            k: v if k == "N" and self.out.kind["N"] in ("odd", "0-d") else permuted(v, order)
            for k, v in (structure | grid).items()
        }
        self.save(folder / "grids.npz", shuffled)
        self.save(folder / "other.npz", {k: v for k, v in columns.items() if k not in grid})
        self.out.source = str(folder)
        return self.out

    def sets(self, folder: Path, columns: dict[str, np.ndarray]) -> Written:
        """One file each for training, validation and test."""
        n = len(self.out.rows)
        cuts = np.array_split(np.arange(n), len(SETS))
        for name, rows in zip(SETS, cuts, strict=True):
            part = {}
            for key, values in columns.items():
                whole = values.ndim == 0 or (key == "N" and self.out.kind["N"] == "odd")
                rest = values.reshape(n, -1)[rows] if not whole else values
                shape = (len(rows) * (len(values) // n), *values.shape[1:]) if not whole else ()
                part[key] = values if whole else rest.reshape(shape)
            self.save(folder / f"data_{name}.npz", part)
        self.out.source = str(folder)
        return self.out

    def pick(self) -> np.ndarray:
        """Draws molecules; sometimes all of a number of atoms that makes shapes ambiguous."""
        size = self.data.n_atoms.to_numpy()
        pool = np.arange(len(size))
        self.out = Written("", pool)
        numbers = {"two": [2], "three": [3], "six": [6], "nine": [9]}
        chosen = self.choose("atoms", ["any", "any", "any", *numbers])
        if chosen != "any":
            pool = np.flatnonzero(np.isin(size, numbers[chosen]))
        self.many_atoms = chosen in ("any", "nine")
        # Of two or three atoms there are too few bonds to hydrogen to tell a unit of forces.
        few = chosen in ("two", "three")
        records = self.choose("records", ["charges", "quadrupoles", "forces"][: 2 if few else 3])
        self.with_forces = records == "forces"
        column = {"charges": "monopoles", "quadrupoles": "quadrupole", "forces": "forces"}
        wanted = self.data[column[records]]
        there = np.isfinite(wanted.to_numpy()[pool]).reshape(len(pool), -1).any(axis=1)
        pool = pool[there] if there.any() else pool
        self.with_forces &= bool(there.any())
        kind = dict(self.out.kind)
        self.with_esp = self.choose("ESP", ["yes"] * 5 + ["no"]) == "yes"
        kind |= self.out.kind
        least = 24 if self.with_forces or not self.with_esp else 4
        n = min(len(pool), int(self.rng.integers(least, 4 * least)))
        rows = self.rng.choice(pool, n, replace=False)
        self.kept_kind = kind
        return rows

    def get(self, name: str) -> np.ndarray:
        return self.data[name].to_numpy()[self.out.rows].astype(np.float64)

    def padded(self) -> dict[str, np.ndarray]:
        self.out.kind |= self.kept_kind
        n = len(self.out.rows)
        n_atoms = self.get("n_atoms").astype(int)
        n_grid = self.get("n_grid").astype(int)
        width = n_atoms.max() + int(self.choose("spare atoms", [0, 0, 1, 30]))
        points = n_grid.max() + int(self.choose("spare points", [0, 0, 1, 700]))
        atom_pad = float(self.choose("atom padding", [0.0, 0.0, np.nan]))
        grid_pad = float(self.choose("grid padding", PADDING))
        columns = self.atoms(n, width, n_atoms, atom_pad)
        self.structure = set(columns)
        grid = self.points(n, points, n_grid, grid_pad) if self.with_esp else {}
        self.grid = set(grid)
        columns |= grid
        columns |= self.energies(n, width, n_atoms)
        columns |= self.moments(n, width, n_atoms)
        return columns

    def atoms(self, n, width, n_atoms, pad) -> dict[str, np.ndarray]:
        unit = self.choose("unit of R", LENGTH)
        truth = self.truth("positions", n_atoms)
        positions = fit(truth * LENGTH[unit], width, pad).astype(np.float32)
        shapes = ["(n,A,3)", "(n,A,3)", "(n·A,3)", "flat"]
        shape = self.choose("shape of R", shapes)
        positions = {"(n·A,3)": positions.reshape(-1, 3), "flat": positions.reshape(-1)}.get(
            shape, positions
        )
        numbers = np.zeros((n, width))
        numbers[:, : n_atoms.max()] = self.get("atomic_numbers")[:, : n_atoms.max()]
        self.masses = np.vectorize(lambda z: MASS.get(int(z), 0.0))(numbers)
        self.placed = np.nan_to_num(truth)
        numbers = numbers.astype(self.choose("dtype of Z", ["i4", "u1", "f4", "f8"]))
        columns = {
            self.choose("R", ["R", "positions", "coords", "xyz"]): positions,
            self.choose("Z", ["Z", "z", "numbers", "atomic_numbers"]): numbers,
        }
        count = self.choose("N", ["none", "(n,)", "(n,1)", "0-d", "odd"])
        if count != "none":
            columns["N"] = {
                "(n,)": n_atoms,
                "(n,1)": n_atoms[:, None],
                "0-d": np.array(width),
                "odd": np.full(n + 2, width),
            }[count]
        if self.choose("id", ["yes", "no"]) == "yes":
            names = self.data.molecule_id.to_numpy()[self.out.rows]
            columns["id"] = np.array([f"{name}/{row}" for row, name in enumerate(names)])
        return columns

    def points(self, n, width, n_grid, pad) -> dict[str, np.ndarray]:
        unit = self.choose("unit of grid", LENGTH)
        grid = fit(self.truth("vdw_surface", n_grid) * LENGTH[unit], width, pad)
        unit = self.choose("unit of esp", POTENTIAL)
        esp_pad = np.nan if np.isnan(pad) else 0.0
        esp = fit(self.truth("esp", n_grid) * POTENTIAL[unit], width, esp_pad)
        if self.choose("shape of esp", ["(n,G)", "(n,G)", "(n,G,1)"]) == "(n,G,1)":
            esp = esp[..., None]
        columns = {
            self.choose("grid", ["vdw_surface", "esp_grid", "vdw_grid"]): grid.astype(np.float32),
            self.choose("esp", ["esp", "ESP"]): esp.astype(np.float32),
        }
        if self.choose("second grid", ["no", "no", "yes"]) == "yes" and "vdw_grid" not in columns:
            columns["vdw_grid"] = grid.astype(np.float32)
        elif (
            self.many_atoms
            and "vdw_grid" not in columns
            and self.choose("other grid", ["no"] * 5 + ["yes"]) == "yes"
        ):
            # Of another calculation, say: as wide, but not where the ESP is.
            turned = np.where(np.isnan(grid) | (grid == pad), pad, grid @ turn(self.rng))
            columns = {"vdw_grid": turned.astype(np.float32), **columns}
        count = self.choose("n_grid", ["none", "(n,)", "(n,1)", "width"])
        if count != "none":
            columns["n_grid"] = {
                "(n,)": n_grid,
                "(n,1)": n_grid[:, None],
                "width": np.full(n, width),
            }[count]
        return columns

    def moments(self, n, width, n_atoms) -> dict[str, np.ndarray]:
        columns: dict[str, np.ndarray] = {}
        vector = self.get("dipole")
        kind = self.choose("D", ["none", "(n,)", "(n,1)", "(n,3)", "flat", "Dxyz"])
        factor = DIPOLE[self.choose("unit of D", DIPOLE)] if kind != "none" else 1.0
        size = np.linalg.norm(vector, axis=1) * factor
        if kind in ("(n,)", "(n,1)"):
            columns["D"] = size if kind == "(n,)" else size[:, None]
            self.out.truth["dipole_magnitude"] = np.linalg.norm(vector, axis=1)
        elif kind != "none":
            given = vector
            weight = self.masses[:, : self.placed.shape[1], None]
            center = (weight * self.placed).sum(axis=1) / weight.sum(axis=1)
            moved = self.get("total_charge")[:, None] * center
            if self.with_esp and np.sqrt(np.mean(moved**2)) > 0.05:
                about = self.choose("point of D", ["origin", "origin", "centre of mass"])
                given = vector - moved if about != "origin" else vector
            given = given * factor
            columns["Dxyz" if kind == "Dxyz" else "D"] = given.ravel() if kind == "flat" else given
            self.out.truth["dipole"] = vector
        columns |= self.charges(n, width, n_atoms)
        return {key: np.asarray(value, dtype=np.float32) for key, value in columns.items()}

    def charges(self, n, width, n_atoms) -> dict[str, np.ndarray]:
        columns: dict[str, np.ndarray] = {}
        tensor = self.get("quadrupole")
        kinds = ["none", "charge", "charge (n,1)"]
        monopoles = self.truth("monopoles", n_atoms, keep=False)
        have_charges = bool(np.isfinite(monopoles).any(axis=1).all())
        if have_charges:
            kinds += ["charges"]
        if np.isfinite(tensor).all() and self.with_esp:
            kinds += ["six", "nine", "(n,3,3)", "flat", "six", "Gaussian's six"]
        kind = self.choose("Q", kinds)
        said = {"charge", "charge (n,1)"}
        if kind.startswith("charge") and kind != "charges":
            columns["Q"] = self.get("total_charge").reshape((n, 1) if "1" in kind else n)
        elif kind == "charges":
            columns["Q"] = fit(monopoles, width, 0.0)
            self.out.truth["monopoles"] = monopoles
        elif kind != "none":
            tensor = self.get("quadrupole")
            convention = self.choose("Q is", ["plain", "plain", "traceless", "Buckingham's"])
            if convention != "plain":
                tensor = tensor - np.trace(tensor, axis1=1, axis2=2)[:, None, None] * np.eye(3) / 3
            self.out.truth["quadrupole"] = tensor
            unit = self.choose("unit of Q", QUADRUPOLE)
            tensor = tensor * QUADRUPOLE[unit] * (1.5 if convention == "Buckingham's" else 1.0)
            columns["Q"] = {
                "six": np.stack([tensor[:, i, j] for i, j in QUADRUPOLE_COMPONENTS], axis=1),
                "Gaussian's six": np.stack([tensor[:, i, j] for i, j in GAUSSIAN_ORDER], axis=1),
                "nine": tensor.reshape(n, 9),
                "(n,3,3)": tensor,
                "flat": tensor.ravel(),
            }[kind]
        mono = "none"
        if kind != "charges" and have_charges:
            mono = self.choose("mono", ["none", "(n,A)", "(n,A,1)"])
        if mono != "none":
            given = fit(monopoles, width, 0.0)
            columns["mono"] = given[..., None] if self.out.kind["mono"] == "(n,A,1)" else given
            self.out.truth["monopoles"] = monopoles
        if self.with_esp or kind in said or "monopoles" in self.out.truth:
            self.out.truth["total_charge"] = self.get("total_charge")
        return columns

    def energies(self, n, width, n_atoms) -> dict[str, np.ndarray]:
        columns: dict[str, np.ndarray] = {}
        energy = self.get("energy")
        if np.isfinite(energy).all():
            kind = self.choose("E", ["none", "total", "total", "above free atoms"])
            if kind != "none":
                if kind != "total":
                    energy = self.above_free[self.out.rows]
                self.out.truth["energy"] = energy
                given = energy * ENERGY[self.choose("unit of E", ENERGY)]
                shape = self.choose("shape of E", ["(n,)", "(n,1)", "text"])
                columns[self.choose("name of E", ["E", "energy", "energies"])] = {
                    "(n,)": given,
                    "(n,1)": given[:, None],
                    "text": np.array([repr(float(value)) for value in given]),
                }[shape]
        if self.with_forces and self.choose("F", ["none", "forces", "gradient"]) != "none":
            forces = self.truth("forces", n_atoms)
            sign = -1 if self.out.kind["F"] == "gradient" else 1
            given = sign * forces * FORCE[self.choose("unit of F", FORCE)]
            columns[self.choose("name of F", ["F", "forces"])] = fit(given, width, 0.0)
        if self.choose("com", ["none", "none", "yes"]) == "yes":
            weight = self.masses[:, : self.placed.shape[1], None]
            center = (weight * self.placed).sum(axis=1) / weight.sum(axis=1)
            self.out.truth["center_of_mass"] = center
            columns["com"] = center * LENGTH[self.out.kind["unit of R"]]
        return columns

    def single(self, folder: Path) -> Written:
        self.out.kind |= self.kept_kind
        length = LENGTH[self.choose("unit of R", LENGTH)]
        grid_length = LENGTH[self.choose("unit of grid", LENGTH)]
        potential = POTENTIAL[self.choose("unit of esp", POTENTIAL)]
        dipole = DIPOLE[self.choose("unit of D", DIPOLE)]
        self.truth("positions", self.get("n_atoms").astype(int))
        self.truth("vdw_surface", self.get("n_grid").astype(int))
        self.truth("esp", self.get("n_grid").astype(int))
        self.out.truth["dipole"] = self.get("dipole")
        for index, row in enumerate(self.out.rows):
            one = self.data.isel(molecule=row)
            a, g = int(one.n_atoms), int(one.n_grid)
            np.savez(
                folder / f"{index:03d}_esp_pyscf.npz",
                Z=one.atomic_numbers.to_numpy()[:a],
                R=one.positions.to_numpy()[:a] * length,
                esp=one.esp.to_numpy()[:g] * potential,
                esp_grid=one.vdw_surface.to_numpy()[:g] * grid_length,
                dipole=one.dipole.to_numpy() * dipole,
            )
        self.out.source = str(folder)
        return self.out

    def truth(self, name: str, counts: np.ndarray, keep: bool = True) -> np.ndarray:
        """Values of a variable, trimmed to the widest molecule and NaN at padding."""
        values = self.get(name)[:, : counts.max()]
        values[np.arange(values.shape[1]) >= counts[:, None]] = np.nan
        if keep:
            self.out.truth[name] = values
        return values

    def save(self, path: Path, columns: dict[str, np.ndarray]) -> None:
        self.out.keys += list(columns)
        (
            np.savez
            if self.choose("zip", ["stored", "deflated"]) == "stored"
            else np.savez_compressed
        )(path, **columns)


def turn(rng: np.random.Generator) -> np.ndarray:
    """A random rotation by a large angle."""
    turned, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    return turned


def permuted(values: np.ndarray, order: np.ndarray) -> np.ndarray:
    """Puts molecules into another order, also where their axis was merged with others."""
    return values.reshape(len(order), -1)[order].reshape(values.shape)


def fit(values: np.ndarray, width: int, pad: float) -> np.ndarray:
    """Pads the second axis to a width, and replaces NaN by the padding."""
    out = np.full((values.shape[0], width, *values.shape[2:]), pad)
    out[:, : values.shape[1]] = np.where(np.isnan(values), pad, values)
    return out


def matched(truth: np.ndarray, stored: np.ndarray) -> np.ndarray:
    """Row of the store of each molecule that was written, by its positions."""
    inside = np.nan_to_num(stored[:, : truth.shape[1]].astype(np.float64))
    apart = np.abs(np.nan_to_num(truth)[:, None] - inside[None]).max(axis=(2, 3))
    return apart.argmin(axis=1)


TOLERANCE = {
    "energy": 1e-6,
    "forces": 1e-5,
    "center_of_mass": 1e-2,
    "positions": 2e-4,
    "vdw_surface": 3e-4,
    "esp": 2e-6,
    "quadrupole": 5e-3,
}


def mistakes(written: Written, stored: xr.Dataset) -> list[str]:
    """Variables of a store that are not what was written."""
    wrong = []
    if not len(stored.positions):
        return ["no molecule was stored"]
    rows = matched(written.truth["positions"], stored.positions.to_numpy())
    for name, truth in written.truth.items():
        if name not in stored:
            wrong.append(f"{name} is not there")
            continue
        values = stored[name].to_numpy().astype(np.float64)[rows]
        inside = tuple(map(slice, truth.shape))
        tolerance = TOLERANCE.get(name, 2e-3)
        if not np.allclose(values[inside], truth, rtol=2e-5, atol=tolerance, equal_nan=True):
            wrong.append(name)
        elif np.isfinite(values).sum() != np.isfinite(truth).sum():
            wrong.append(f"{name} beyond its padding")
    unasked = {"dipole", "dipole_magnitude", "quadrupole", "monopoles"} - written.truth.keys()
    if len(stored.positions) != len(written.rows):
        wrong.append(f"{len(stored.positions)} molecules of {len(written.rows)}")
    wrong += [
        f"{n} out of nothing" for n in unasked if n in stored and np.isfinite(stored[n]).any()
    ]
    return wrong
