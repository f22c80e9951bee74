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
    sites = []
    for charge, displacement, atom in zip(
        molecule.charges, molecule.displacements, molecule.atom.tolist(), strict=True
    ):
        frame = held[atom]
        local = _right_handed_axes(frame, structure.positions) @ displacement / NANOMETRE
        sites.append(
            Site(
                charge=float(charge),
                atoms=frame,
                origin=tuple(float(member == atom) for member in frame),
                x=(1.0, -1.0, 0.0),
                y=(0.0, -1.0, 1.0),
                local=(float(local[0]), float(local[1]), float(local[2])),
                owner=atom,
            )
        )
    return sites


def _right_handed_axes(
    frame: tuple[int, int, int], positions: Float[np.ndarray, "a 3"]
) -> Float[np.ndarray, "3 3"]:
    """Returns OpenMM's axes: x along A - B, z along x times C - B, y the rest."""
    a, b, c = (positions[index] for index in frame)
    x = (a - b) / np.linalg.norm(a - b)
    z = np.cross(x, c - b)
    z /= np.linalg.norm(z)
    return np.stack([x, np.cross(z, x), z])


def _on_axis(molecule: ChargedMolecule, k: int) -> Site:
    structure, atom = molecule.structure, int(molecule.atom[k])
    displacement = molecule.displacements[k]
    positions = structure.positions
    atoms: tuple[int, ...] = (atom,)
    origin: tuple[float, ...] = (1.0,)
    off = displacement
    if structure.n_atoms > 1:
        distances = np.linalg.norm(positions - positions[atom], axis=1)
        distances[atom] = np.inf
        other = int(distances.argmin())
        bond = positions[other] - positions[atom]
        share = float(displacement @ bond / (bond @ bond))
        atoms, origin = (atom, other), (1.0 - share, share)
        off = displacement - share * bond
    if np.linalg.norm(off) > _OFF_AXIS:
        raise SourceError.of(
            structure.place,
            expected="charges on the axis of a linear molecule, where symmetry puts them",
            received=f"one {np.linalg.norm(off):.3f} Å away from it, of atom {atom}",
            consequence="no virtual site can follow it",
            remedy="Give the exact linear geometry, or one that is bent by more than 6 degrees",
        )
    return Site(float(molecule.charges[k]), atoms, origin, (), (), (0.0, 0.0, 0.0), atom)


def charges_on_nuclei(n_atoms: int, sites: Sequence[Site]) -> Float[np.ndarray, " a"]:
    """Returns what lone atoms carry; the charges of all others are on sites."""
    charges = np.zeros(n_atoms)
    for site in sites:
        if len(site.atoms) == 1:
            charges[site.owner] += site.charge
    return charges
