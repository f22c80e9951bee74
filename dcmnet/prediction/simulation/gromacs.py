"""Distributed charges as virtual sites of GROMACS.

Sites in frames of three atoms are of the kind ``3out`` (``virtual_sites3``, function 4), those on a
line of two are ``virtual_sites2`` (GROMACS reference manual, "Virtual interaction sites").
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from ase.data import atomic_masses, chemical_symbols
from jaxtyping import Float

from dcmnet.prediction.charges import ChargedMolecule
from dcmnet.prediction.simulation.charmm import RESIDUE, check_residue
from dcmnet.prediction.simulation.frames import bonds
from dcmnet.prediction.simulation.sites import (
    NANOMETRE,
    Site,
    charges_on_nuclei,
    virtual_sites,
)

# Bonds apart within which GROMACS itself leaves out pairs of atoms.
_EXCLUDED_BONDS = 3


def out_of_plane(
    site: Site,
    displacement: Float[np.ndarray, " 3"],
    positions: Float[np.ndarray, "a 3"],
) -> tuple[tuple[int, int, int], Float[np.ndarray, " 3"]]:
    """Returns the atoms i, j, k and the factors a, b, c of a ``3out`` site.

    It is at r_i + a r_ij + b r_ik + c (r_ij x r_ik), where i is the atom that owns the charge;
    a and b are numbers, c is in 1/nm.

    Args:
        site: A site in a frame of three atoms.
        displacement: From its owner to the charge, angstrom.
        positions: Nuclear positions, angstrom.
    """
    j, k = (atom for atom in site.atoms if atom != site.owner)
    first, second = ((positions[atom] - positions[site.owner]) / NANOMETRE for atom in (j, k))
    axes = np.stack([first, second, np.cross(first, second)], axis=1)
    return (site.owner, j, k), np.linalg.solve(axes, displacement / NANOMETRE)


def write_topology(
    path: Path, molecule: ChargedMolecule, name: str = RESIDUE, title: str = ""
) -> None:
    """Writes a molecule as a ``moleculetype`` of GROMACS, with its virtual sites.

    It holds electrostatics only: Lennard-Jones is switched off (epsilon 0) and bonds have no
    potential; both belong to the force field that it is merged into. All charges of the molecule
    are excluded from each other: a distributed charge model describes the potential around a
    molecule, not within.

    Args:
        path: The file, ``.itp``; to be included before any other molecule, since it has types.
        molecule: With its charges.
        name: Name of the molecule and of its residue.
        title: Where the charges come from; a comment.

    Raises:
        SourceError: See ``virtual_sites``.
        ConfigError: The name is none that a topology can have.
    """
    check_residue(name)
    sites = virtual_sites(molecule)
    placed = [
        (site, displacement)
        for site, displacement in zip(sites, molecule.displacements, strict=True)
        if len(site.atoms) > 1
    ]
    n_atoms = molecule.structure.n_atoms
    sections = {
        "atomtypes": _types(molecule, name, bool(placed)),
        "moleculetype": [f"{name} {_EXCLUDED_BONDS}"],
        "atoms": _atoms(molecule, name, sites, [site for site, _ in placed]),
        "bonds": _bonds(molecule),
        "virtual_sites2": _on_lines(placed, n_atoms),
        "virtual_sites3": _in_frames(placed, molecule.structure.positions),
        "exclusions": _exclusions(n_atoms, len(placed)),
    }
    lines = [f"; {title}: charges only, add Lennard-Jones and bonded terms"]
    for section, rows in sections.items():
        if rows:
            lines += ["", f"[ {section} ]", f"; {_COLUMNS[section]}", *rows]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


_COLUMNS = {
    "atomtypes": "name  number  mass  charge  kind  sigma  epsilon",
    "moleculetype": "name  bonds within which pairs are left out",
    "atoms": "nr  type  resnr  residue  atom  cgnr  charge  mass",
    "bonds": "i  j  function: 5, a bond without a potential",
    "virtual_sites2": "site  i  j  function  a",
    "virtual_sites3": "site  i  j  k  function: 4, out of plane  a  b  c (1/nm)",
    "exclusions": "site  all that it does not interact with",
}
_Placed = Sequence[tuple[Site, Float[np.ndarray, " 3"]]]


def _types(molecule: ChargedMolecule, name: str, has_sites: bool) -> list[str]:
    numbers = sorted(set(molecule.structure.atomic_numbers.tolist()))
    rows = [
        f"{name}_{chemical_symbols[z]:<2} {z:3d} {atomic_masses[z]:9.4f} 0.0 A 0.1 0.0"
        for z in numbers
    ]
    return [*rows, f"{name}_M    0    0.0000 0.0 V 0.0 0.0"] if has_sites else rows


def _atoms(
    molecule: ChargedMolecule, name: str, sites: Sequence[Site], placed: Sequence[Site]
) -> list[str]:
    structure = molecule.structure
    carried = charges_on_nuclei(structure.n_atoms, sites)
    entries = [
        (chemical_symbols[z], charge, float(atomic_masses[z]))
        for z, charge in zip(structure.atomic_numbers.tolist(), carried, strict=True)
    ]
    entries += [("M", site.charge, 0.0) for site in placed]
    counted = dict.fromkeys(("M", *chemical_symbols), 0)
    rows = []
    for index, (symbol, charge, mass) in enumerate(entries, start=1):
        counted[symbol] += 1
        label = f"{symbol}{counted[symbol]}"
        which = f"{index:5d} {name}_{symbol:<2} 1 {name} {label:<5} {index:5d}"
        rows.append(f"{which} {charge:16.10f} {mass:9.4f}")
    return rows


def _bonds(molecule: ChargedMolecule) -> list[str]:
    structure = molecule.structure
    return [
        f"{first + 1:5d} {second + 1:5d} 5"
        for first, second in bonds(structure.atomic_numbers, structure.positions)
    ]


def _on_lines(placed: _Placed, n_atoms: int) -> list[str]:
    rows = []
    for index, (site, _) in enumerate(placed, start=1):
        if len(site.atoms) == 2:
            held = " ".join(f"{atom + 1:5d}" for atom in site.atoms)
            rows.append(f"{n_atoms + index:5d} {held} 1 {site.origin[1]:.10f}")
    return rows


def _in_frames(placed: _Placed, positions: Float[np.ndarray, "a 3"]) -> list[str]:
    rows = []
    for index, (site, displacement) in enumerate(placed, start=1):
        if len(site.atoms) == 3:
            atoms, factors = out_of_plane(site, displacement, positions)
            held = " ".join(f"{atom + 1:5d}" for atom in atoms)
            numbers = " ".join(f"{factor:15.10f}" for factor in factors)
            rows.append(f"{len(positions) + index:5d} {held} 4 {numbers}")
    return rows


def _exclusions(n_atoms: int, n_sites: int) -> list[str]:
    """All pairs of which one is a site; GROMACS knows those of bonded atoms itself."""
    return [
        f"{site:5d} " + " ".join(str(other) for other in range(1, site))
        for site in range(n_atoms + 1, n_atoms + n_sites + 1)
    ]
