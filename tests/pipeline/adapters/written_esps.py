"""Files of a molecule's ESP, as quantum chemistry programs write them."""

from __future__ import annotations

from pathlib import Path

import ase
import ase.io
import numpy as np
from ase.io.cube import write_cube

from store_schema.units import BOHR_IN_ANGSTROM, DEBYE_IN_E_ANGSTROM
from tests.pipeline.inference.open_units import ATOMS


class Molecule:
    """Charges at the atoms, whose ESP is exact; all in Å, e and hartree/e."""

    def __init__(self, numbers, positions, charges):
        self.numbers, self.positions, self.charges = map(np.asarray, (numbers, positions, charges))

    def esp(self, points):
        distance = np.linalg.norm(points[:, None] - self.positions, axis=-1) / BOHR_IN_ANGSTROM
        return (self.charges / distance).sum(axis=1)

    @property
    def energy(self):
        """About what such a molecule has, in hartree."""
        return sum(ATOMS[number] - 0.1 for number in self.numbers.tolist())

    @property
    def total_charge(self):
        return round(float(self.charges.sum()))


def cube(folder: Path, molecule: Molecule, _points, name="esp") -> Path:
    """A box of 10 Å with points 0.4 Å apart."""
    edge, n = 10.0, 25
    atoms = ase.Atoms(molecule.numbers, molecule.positions, cell=np.eye(3) * edge)
    axis = -edge / 2 + np.arange(n) * edge / n
    grid = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), axis=-1)
    values = molecule.esp(grid.reshape(-1, 3)).reshape(n, n, n)
    with (folder / f"{name}.cube").open("w") as file:
        write_cube(file, atoms, np.clip(values, -99, 99), origin=np.full(3, -edge / 2))
    return folder / f"{name}.cube"


def gaussian(folder: Path, molecule: Molecule, points, name="job") -> Path:
    """A log of ``pop=mk iop(6/33=2)``: a first geometry, then the one that the ESP is of."""
    rule = " " + "-" * 69
    heads = " Center     Atomic      Atomic             Coordinates (Angstroms)\n"
    heads += " Number     Number       Type             X           Y           Z"

    def table(title, places):
        rows = [
            f"{i + 1:7d}{z:11d}           0     " + "".join(f"{v:12.6f}" for v in place)
            for i, (z, place) in enumerate(zip(molecule.numbers, places, strict=True))
        ]
        return [f"{title:>46}", rule, heads, rule, *rows, rule]

    centers = [("Atomic Center", molecule.positions), ("ESP Fit Center", points)]
    esp = molecule.esp(points)
    dipole = molecule.charges @ molecule.positions / DEBYE_IN_E_ANGSTROM
    lines = [
        " Entering Gaussian System, Link 0=g16",
        " Gaussian 16:  ES64L-G16RevC.01  3-Jul-2019",
        f" Charge = {molecule.total_charge:2d} Multiplicity = 1",
        *table("Input orientation:", molecule.positions + 1.0),
        *table("Standard orientation:", molecule.positions),
        f" SCF Done:  E(RPBE1PBE) = {molecule.energy:15.10f}     A.U. after   10 cycles",
        " Dipole moment (field-independent basis, Debye):",
        f"    X={dipole[0]:26.4f}    Y={dipole[1]:26.4f}    Z={dipole[2]:26.4f}  Tot=  0.0000",
        "            Electrostatic Properties Using The SCF Density",
        *(
            f"   {kind:>14} {i + 1:4d} is at  " + "".join(f"{v:10.6f}" for v in place)
            for kind, places in centers
            for i, place in enumerate(places)
        ),
        "              Electrostatic Properties (Atomic Units)",
        rule,
        "    Center     Electric         -------- Electric Field --------",
        "               Potential          X             Y             Z",
        rule,
        *(f"{i + 1:5d} Atom    -22.300000" for i in range(len(molecule.numbers))),
        *(f"{len(molecule.numbers) + i + 1:5d} Fit {v:14.6f}" for i, v in enumerate(esp)),
        rule,
        " Normal termination of Gaussian 16",
    ]
    (folder / f"{name}.log").write_text("\n".join(lines) + "\n")
    return folder / f"{name}.log"


def orca(folder: Path, molecule: Molecule, points, name="job") -> Path:
    """What ``orca_vpot`` writes, beside the geometry."""
    rows = np.column_stack([points / BOHR_IN_ANGSTROM, molecule.esp(points)])
    text = "\n".join(" ".join(f"{v:.10e}" for v in row) for row in rows)
    (folder / f"{name}.vpot").write_text(f"{len(rows)}\n{text}\n")
    _structure(folder / f"{name}.xyz", molecule)
    return folder / f"{name}.vpot"


def psi4(folder: Path, molecule: Molecule, points, name="job") -> Path:
    """What ``oeprop("GRID_ESP")`` writes, beside what it read and the geometry."""
    (place := folder / name).mkdir()
    np.savetxt(place / "grid.dat", points)
    np.savetxt(place / "grid_esp.dat", molecule.esp(points))
    _structure(place / "geometry.xyz", molecule)
    return place / "grid_esp.dat"


def _structure(path: Path, molecule: Molecule) -> None:
    atoms = ase.Atoms(molecule.numbers, molecule.positions)
    atoms.info["charge"] = molecule.total_charge
    ase.io.write(path, atoms, format="extxyz")


ESP_WRITERS = {"cube": cube, "gaussian": gaussian, "orca": orca, "psi4": psi4}
