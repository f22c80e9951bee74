"""Virtual sites that distributed charges are, apart from the program that places them.

A site of a bent molecule is fixed in the frame of three atoms. In a linear one, where symmetry
puts every charge on the axis, it divides the line of two atoms; charges of a lone atom are on it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from dcmnet.prediction.charges import ChargedMolecule
from dcmnet.prediction.simulation.frames import choose_frames
from store_schema.problems import SourceError
from store_schema.units import to_canonical

NANOMETRE = to_canonical("nm", "length")
# Charges that symmetry puts on an axis or a nucleus are there up to rounding, angstrom.
_OFF_AXIS = 1e-3


class Site(NamedTuple):
    """A virtual site.

    Attributes:
        charge: e.
        atoms: Atoms that hold it, from 0: three, two, or one.
        origin: Their weights in the origin of the site.
        x: Their weights in the direction of x; of y, too, empty but for three atoms.
        y: See there.
        local: Position along x, y, z in nm; zero but for three atoms.
        owner: Atom that the charge belongs to.
    """

    charge: float
    atoms: tuple[int, ...]
    origin: tuple[float, ...]
    x: tuple[float, ...]
    y: tuple[float, ...]
    local: tuple[float, float, float]
    owner: int


def virtual_sites(molecule: ChargedMolecule) -> list[Site]:
    """Returns the sites of a molecule's charges.

    Raises:
        SourceError: A charge of a linear molecule is off its axis, where no site can
            follow it.
    """
    structure = molecule.structure
    frames = choose_frames(structure.atomic_numbers, structure.positions)
    if not frames:
        return [_on_axis(molecule, k) for k in range(len(molecule.charges))]
    held = {atom: frame.atoms for frame in frames for atom in frame.owners}
    return [_in_frame(molecule, k, held[atom]) for k, atom in enumerate(molecule.atom.tolist())]


def _in_frame(molecule: ChargedMolecule, k: int, frame: tuple[int, int, int]) -> Site:
    """A site with x along the bond of its own atom: A - B of A and B, C - B of C, as in CHARMM."""
    atom = int(molecule.atom[k])
    x, y = ((0.0, -1.0, 1.0), (1.0, -1.0, 0.0))
    site = Site(
        charge=float(molecule.charges[k]),
        atoms=frame,
        origin=tuple(float(member == atom) for member in frame),
        x=x if atom == frame[2] else y,
        y=y if atom == frame[2] else x,
        local=(0.0, 0.0, 0.0),
        owner=atom,
    )
    return moved_to(site, molecule.displacements[k], molecule.structure.positions)


def moved_to(
    site: Site, displacement: Float[np.ndarray, " 3"], positions: Float[np.ndarray, "a 3"]
) -> Site:
    """Returns a site with the coordinates that put it where a charge is, as far as it can be.

    Args:
        site: In a frame of three atoms, on a line of two, or on a lone atom, where it stays.
        displacement: From its own atom to the charge, angstrom.
        positions: Nuclear positions, angstrom.
    """
    if len(site.atoms) == 3:
        x, y, z = (site_axes(site, positions) @ displacement / NANOMETRE).tolist()
        return site._replace(local=(x, y, z))
    if len(site.atoms) == 2:
        bond = positions[site.atoms[1]] - positions[site.atoms[0]]
        share = float(displacement @ bond / (bond @ bond))
        return site._replace(origin=(1.0 - share, share))
    return site


def site_axes(site: Site, positions: Float[np.ndarray, "a 3"]) -> Float[np.ndarray, "3 3"]:
    """Returns the axes of a site of three atoms as OpenMM has them, as rows.

    x is along its first direction, z along x times its second one, y the rest.
    """
    atoms = positions[list(site.atoms)]
    x, second = np.array(site.x) @ atoms, np.array(site.y) @ atoms
    x /= np.linalg.norm(x)
    z = np.cross(x, second)
    z /= np.linalg.norm(z)
    return np.stack([x, np.cross(z, x), z])


def place_sites(
    sites: Sequence[Site], positions: Float[np.ndarray, "a 3"]
) -> Float[np.ndarray, "k 3"]:
    """Returns where sites are in another geometry of their molecule, as a simulation has them.

    Args:
        sites: The sites.
        positions: Nuclear positions, angstrom.

    Returns:
        Their positions in angstrom.
    """
    places = []
    for site in sites:
        place = np.array(site.origin) @ positions[list(site.atoms)]
        if len(site.atoms) == 3:
            place = place + NANOMETRE * np.array(site.local) @ site_axes(site, positions)
        places.append(place)
    return np.array(places).reshape(-1, 3)


def _on_axis(molecule: ChargedMolecule, k: int) -> Site:
    structure, atom = molecule.structure, int(molecule.atom[k])
    positions, displacement = structure.positions, molecule.displacements[k]
    site = Site(float(molecule.charges[k]), (atom,), (1.0,), (), (), (0.0, 0.0, 0.0), atom)
    if structure.n_atoms > 1:
        distances = np.linalg.norm(positions - positions[atom], axis=1)
        distances[atom] = np.inf
        on_bond = site._replace(atoms=(atom, int(distances.argmin())))
        site = moved_to(on_bond, displacement, positions)
    off = positions[atom] + displacement - place_sites([site], positions)[0]
    if np.linalg.norm(off) > _OFF_AXIS:
        raise SourceError.of(
            structure.place,
            wrong=f"a charge of atom {atom} of this linear molecule is {np.linalg.norm(off):.3f} "
            "Å away from the axis, where symmetry puts it",
            consequence="no virtual site can follow it",
            remedy="Give the exact linear geometry, or one that is bent by more than 6 degrees",
        )
    return site


def charges_on_nuclei(n_atoms: int, sites: Sequence[Site]) -> Float[np.ndarray, " a"]:
    """Returns what lone atoms carry; the charges of all others are on sites."""
    charges = np.zeros(n_atoms)
    for site in sites:
        if len(site.atoms) == 1:
            charges[site.owner] += site.charge
    return charges
