"""Distributed charges as virtual sites of OpenMM.

Sites in frames of three atoms are ``LocalCoordinatesSite``, those on a line of two
``TwoParticleAverageSite``.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree import ElementTree

from ase.data import atomic_masses, chemical_symbols

from dcmnet.prediction.charges import ChargedMolecule
from dcmnet.prediction.simulation.charmm import RESIDUE
from dcmnet.prediction.simulation.frames import bonds
from dcmnet.prediction.simulation.sites import Site, charges_on_nuclei, virtual_sites
from store_schema.problems import ConfigError

# A type of OpenMM has a radius even where it attracts nothing, nm.
_ANY_SIGMA = 1.0


def write_force_field(
    path: Path, molecule: ChargedMolecule, name: str = RESIDUE, title: str = ""
) -> None:
    """Writes a molecule as a residue of OpenMM's ``ForceField``, with its virtual sites.

    It holds electrostatics only: Lennard-Jones is switched off (epsilon 0) and bonded terms
    are absent; they belong to the force field that it is merged into.

    Args:
        path: The file, XML.
        molecule: With its charges.
        name: Name of the residue.
        title: Where the charges come from; a comment.

    Raises:
        SourceError: See ``virtual_sites``.
    """
    structure = molecule.structure
    sites = virtual_sites(molecule)
    root = ElementTree.Element("ForceField")
    about = f"{title}: charges only, add Lennard-Jones and bonded terms".replace("--", "-")
    root.append(ElementTree.Comment(f" {about} "))
    parts = _Parts(
        types=ElementTree.SubElement(root, "AtomTypes"),
        residue=ElementTree.SubElement(
            ElementTree.SubElement(root, "Residues"), "Residue", name=name
        ),
        force=ElementTree.SubElement(root, "NonbondedForce", coulomb14scale="1", lj14scale="1"),
    )
    atoms = [f"{chemical_symbols[z]}{i + 1}" for i, z in enumerate(structure.atomic_numbers)]
    on_nuclei = charges_on_nuclei(structure.n_atoms, sites)
    for label, number, charge in zip(atoms, structure.atomic_numbers, on_nuclei, strict=True):
        element = {
            "element": chemical_symbols[number],
            "mass": f"{atomic_masses[number]:.6g}",
        }
        parts.add(f"{name}-{label}", label, charge, element)
    for place, site in enumerate(s for s in sites if len(s.atoms) > 1):
        label = f"M{place + 1}"
        parts.add(f"{name}-{label}", label, site.charge, {"mass": "0"})
        ElementTree.SubElement(parts.residue, "VirtualSite", _attributes(site, label, atoms))
    for first, second in bonds(structure.atomic_numbers, structure.positions):
        held = {"atomName1": atoms[first], "atomName2": atoms[second]}
        ElementTree.SubElement(parts.residue, "Bond", held)
    ElementTree.indent(root)
    ElementTree.ElementTree(root).write(path, encoding="unicode")


class _Parts(NamedTuple):
    """Elements of a force field that every atom has an entry in."""

    types: ElementTree.Element
    residue: ElementTree.Element
    force: ElementTree.Element

    def add(self, kind: str, label: str, charge: float, about: dict[str, str]) -> None:
        ElementTree.SubElement(self.types, "Type", {"name": kind, "class": kind, **about})
        ElementTree.SubElement(self.residue, "Atom", {"name": label, "type": kind})
        values = {"charge": repr(float(charge)), "sigma": str(_ANY_SIGMA), "epsilon": "0"}
        ElementTree.SubElement(self.force, "Atom", {"type": kind, **values})


def _attributes(site: Site, label: str, atoms: Sequence[str]) -> dict[str, str]:
    """Returns the attributes of a ``VirtualSite`` element, as OpenMM's guide lists them."""
    held = {f"atomName{i + 1}": atoms[atom] for i, atom in enumerate(site.atoms)}
    about = {"siteName": label, **held, "excludeWith": str(site.owner)}
    if len(site.atoms) == 2:
        weights = {f"weight{i + 1}": repr(w) for i, w in enumerate(site.origin)}
        return {"type": "average2", **about, **weights}
    weights = {
        f"{kind}{i + 1}": repr(weight)
        for kind, values in (("wo", site.origin), ("wx", site.x), ("wy", site.y))
        for i, weight in enumerate(values)
    }
    places = {f"p{i + 1}": repr(value) for i, value in enumerate(site.local)}
    return {"type": "localCoords", **about, **weights, **places}


def add_virtual_sites(system: Any, molecule: ChargedMolecule, first_atom: int = 0) -> list[int]:
    """Adds a molecule's charges to an ``openmm.System`` that has its atoms already.

    The atoms lose the charges that they have there and keep their Lennard-Jones terms.
    All charges of the molecule are excluded from each other: a distributed charge
    model describes the potential around a molecule, not within.

    Args:
        system: With the molecule's atoms, in its order, and a ``NonbondedForce`` that has a
            particle for each.
        molecule: With its charges.
        first_atom: Index in the system of its first atom.

    Returns:
        Indices of the new particles, one per charge but for those on lone atoms.

    Raises:
        ConfigError: OpenMM is not installed, or the system has no ``NonbondedForce``.
        SourceError: See ``virtual_sites``.
    """
    openmm = _openmm()
    forces = [f for f in system.getForces() if isinstance(f, openmm.NonbondedForce)]
    if len(forces) != 1:
        raise ConfigError.of(
            "add_virtual_sites, system",
            wrong=f"the system has {len(forces)} forces of the kind NonbondedForce; it must have "
            "one",
            consequence="there is nothing to put the charges into",
            remedy="Add an openmm.NonbondedForce with a particle for every atom",
        )
    force, sites = forces[0], virtual_sites(molecule)
    n_atoms = molecule.structure.n_atoms
    for atom, charge in enumerate(charges_on_nuclei(n_atoms, sites)):
        _, sigma, epsilon = force.getParticleParameters(first_atom + atom)
        force.setParticleParameters(first_atom + atom, charge, sigma, epsilon)
    added: list[int] = []
    for site in (s for s in sites if len(s.atoms) > 1):
        index = system.addParticle(0.0)
        force.addParticle(site.charge, _ANY_SIGMA, 0.0)
        system.setVirtualSite(index, _site(openmm, site, first_atom))
        for other in (*range(first_atom, first_atom + n_atoms), *added):
            force.addException(index, other, 0.0, _ANY_SIGMA, 0.0)
        added.append(index)
    return added


def _site(openmm: Any, site: Site, first_atom: int) -> Any:
    atoms = [first_atom + atom for atom in site.atoms]
    if len(atoms) == 2:
        return openmm.TwoParticleAverageSite(*atoms, *site.origin)
    return openmm.LocalCoordinatesSite(atoms, site.origin, site.x, site.y, openmm.Vec3(*site.local))


def _openmm() -> Any:
    try:
        import openmm
    except ImportError as error:
        raise ConfigError.of(
            "openmm",
            wrong="the package openmm is not installed",
            consequence="no virtual sites can be added to a system",
            remedy="Install it: pip install 'dcm-store[openmm]'; .xml files need no openmm",
        ) from error
    return openmm
