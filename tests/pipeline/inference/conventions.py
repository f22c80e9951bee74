"""Random conventions: real molecules written the way people write them, with the truth kept.

Names, shapes, paddings, units, what is present, and the number of atoms are drawn at random.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import xarray as xr

from store_schema.semantics import QUADRUPOLE_COMPONENTS
from tests.pipeline.inference.convention_units import (
    BINDING,
    DIPOLE,
    ENERGY,
    FORCE,
    GAUSSIAN_ORDER,
    LENGTH,
    MASS,
    PADDING,
    POLARIZABILITY,
    POTENTIAL,
    QUADRUPOLE,
    SETS,
    VOIGT_ORDER,
)
from tests.pipeline.inference.written import Written, fit, permuted


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
        """One file each for training, validation and test, as far as the molecules go."""
        n = len(self.out.rows)
        sets = SETS[:n]  # none is empty
        for name, rows in zip(sets, np.array_split(np.arange(n), len(sets)), strict=True):
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
        self.out = Written("", size)
        lone = self.choose("lone ions", ["no", "no", "yes"]) == "yes"
        pool = np.flatnonzero(size > (0 if lone else 1))
        numbers = {"two": [2], "three": [3], "six": [6], "nine": [9]}
        chosen = self.choose("atoms", ["any", "any", "any", *numbers])
        if chosen != "any":
            pool = np.flatnonzero(np.isin(size, numbers[chosen]))
        if chosen != "any":
            self.out.kind["lone ions"] = "no"
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
        if self.out.kind["lone ions"] == "yes" and (size[pool] == 1).any():
            # A few, among molecules: of lone atoms alone, no unit of length can be told.
            some = self.rng.choice(pool[size[pool] == 1], max(1, n // 6), replace=False)
            rows = np.unique(np.concatenate([rows[size[rows] > 1][: n - len(some)], some]))
            self.rng.shuffle(rows)
        else:
            kind["lone ions"] = "no"
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
            turn, _ = np.linalg.qr(self.rng.normal(size=(3, 3)))
            # Of another calculation, say: as wide, but not where the ESP is.
            turned = np.where(np.isnan(grid) | (grid == pad), pad, grid @ turn)
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
        weight = self.masses[:, : self.placed.shape[1], None]
        center = (weight * self.placed).sum(axis=1) / weight.sum(axis=1)
        moved = self.get("total_charge")[:, None] * center
        if kind != "none" and np.sqrt(np.mean(moved**2)) > 0.01 and not self.with_esp:
            self.out.kind["point of D shown"] = "hardly"
        if kind == "Dxyz":
            self.out.kind["Dxyz in"] = self.out.kind["unit of D"]
        if kind in ("(n,)", "(n,1)"):
            columns["D"] = size if kind == "(n,)" else size[:, None]
            self.out.truth["dipole_magnitude"] = np.linalg.norm(vector, axis=1)
        elif kind != "none":
            given = vector
            if np.sqrt(np.mean(moved**2)) > 0.05:
                about = self.choose("point of D", ["origin", "origin", "centre of mass"])
                given = vector - moved if about != "origin" else vector
            given = given * factor
            columns["Dxyz" if kind == "Dxyz" else "D"] = given.ravel() if kind == "flat" else given
            self.out.truth["dipole"] = vector
        columns |= self.charges(n, width, n_atoms)
        if "dipole" in self.out.truth and "total_charge" not in self.out.truth:
            self.out.truth["dipole"] = given.reshape(n, 3) / factor  # nothing says who is an ion
        columns |= self.atomic_dipoles(n_atoms, width, columns)
        columns |= self.polarizability(n)
        return {key: np.asarray(value, dtype=np.float32) for key, value in columns.items()}

    def atomic_dipoles(self, n_atoms, width, columns) -> dict[str, np.ndarray]:
        """What a partition has besides its monopoles: together they are the dipole."""
        if not (self.with_esp and "monopoles" in self.out.truth and self.many_atoms):
            return {}
        options = ["none", "none", "dip", "atomic_dipoles", *([] if "D" in columns else ["D"])]
        name = self.choose("atomic dipoles", options)
        if name == "none":
            return {}
        monopoles = self.out.truth["monopoles"]
        real = np.isfinite(monopoles)[..., None]
        left = self.get("dipole") - np.einsum("ma,max->mx", np.nan_to_num(monopoles), self.placed)
        noise = np.where(real, self.rng.normal(scale=0.02, size=(*monopoles.shape, 3)), 0.0)
        each = (left - noise.sum(axis=1)) / n_atoms[:, None]
        truth = np.where(real, each[:, None] + noise, np.nan)
        self.out.truth["atomic_dipoles"] = truth
        return {name: fit(truth * DIPOLE[self.choose("unit of dip", DIPOLE)], width, 0.0)}

    def polarizability(self, n) -> dict[str, np.ndarray]:
        """Of the size that the atoms suggest, more or less, and missing now and then."""
        shape = self.choose("polar", ["none", "none", "(n,3,3)", "(n,9)"])
        if shape == "none":
            return {}
        # Isotropic polarizabilities of the free atoms in bohr^3 (CRC Handbook), a fifth less.
        free = {1: 4.5, 3: 0.2, 6: 11.3, 7: 7.4, 8: 5.3, 9: 3.7, 11: 1.0, 16: 19.4, 17: 14.6}
        size = np.vectorize(lambda z: 0.8 * free.get(int(z), 0.0))(self.get("atomic_numbers"))
        skew = self.rng.normal(scale=0.08, size=(n, 3, 3))
        tensor = size.sum(axis=1)[:, None, None] * (np.eye(3) + skew + skew.transpose(0, 2, 1))
        tensor[: n // 4] = np.nan
        self.out.truth["polarizability"] = tensor
        given = tensor * POLARIZABILITY[self.choose("unit of polar", POLARIZABILITY)]
        name = self.choose("name of polar", ["polar", "polarizability"])
        return {name: given.reshape(n, 9) if shape == "(n,9)" else given}

    def charges(self, n, width, n_atoms) -> dict[str, np.ndarray]:
        columns: dict[str, np.ndarray] = {}
        tensor = self.get("quadrupole")
        kinds = ["none", "charge", "charge (n,1)"]
        monopoles = self.truth("monopoles", n_atoms, keep=False)
        have_charges = bool(np.isfinite(monopoles).any(axis=1).all())
        if have_charges:
            kinds += ["charges"]
        if np.isfinite(tensor).all() and self.with_esp:
            kinds += ["six", "nine", "(n,3,3)", "flat", "six", "Gaussian's six", "Voigt's six"]
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
                "Voigt's six": np.stack([tensor[:, i, j] for i, j in VOIGT_ORDER], axis=1),
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
            if self.out.kind.get("unit of E") == "eV" and sign < 0:
                self.out.kind["gradient beside"] = "E in eV"
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
