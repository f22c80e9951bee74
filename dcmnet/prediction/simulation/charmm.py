"""Distributed charges for CHARMM's DCM module: files of charges in local frames.

The layout is that of the files of MDCM (Unke et al., J. Chem. Phys. 147, 161712 (2017)):
residues, their frames of three atoms with the kind of axes ("BO", along bonds), and for
each atom of a frame its charges as x y z (angstrom, in the axes of the atom) and q (e).
Atoms are counted from 1 in the order of the residue's topology. An atom of several
frames has its charges in the first.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from dcmnet.prediction.charges import ChargedMolecule
from dcmnet.prediction.simulation.frames import choose_frames, local_axes
from store_schema.problems import ConfigError, SourceError

RESIDUE = "MOL"
_AXES = "BO"


class FrameCharges(NamedTuple):
    """A frame of three atoms, and the charges that are fixed in it.

    Attributes:
        atoms: Indices of A, B, C, from 0.
        charges: For each of them its charges, (n, 4): x, y, z in angstrom and q in e.
    """

    atoms: tuple[int, int, int]
    charges: tuple[Float[np.ndarray, "n 4"], Float[np.ndarray, "n 4"], Float[np.ndarray, "n 4"]]


class DcmResidue(NamedTuple):
    """A residue of a ``.dcm`` file.

    Attributes:
        name: Name of the residue.
        frames: Its frames.
    """

    name: str
    frames: tuple[FrameCharges, ...]

    def place(
        self, positions: Float[np.ndarray, "a 3"]
    ) -> tuple[Float[np.ndarray, " k"], Float[np.ndarray, "k 3"]]:
        """Puts the charges into a conformer, as the simulation does at each step.

        Args:
            positions: Nuclear positions, angstrom.

        Returns:
            Charges in e and their positions in angstrom.
        """
        charges, places = [np.zeros(0)], [np.zeros((0, 3))]
        for frame in self.frames:
            for atom, local in zip(frame.atoms, frame.charges, strict=True):
                axes = local_axes(frame.atoms, atom, positions)
                places.append(positions[atom] + local[:, :3] @ axes)
                charges.append(local[:, 3])
        return np.concatenate(charges), np.concatenate(places)


def check_residue(name: str) -> None:
    """Refuses a name of a residue that CHARMM cannot read, nor XML hold.

    Raises:
        ConfigError: It has other characters than letters and digits, or too many.
    """
    if not re.fullmatch(r"[A-Za-z0-9]{1,8}", name):
        raise ConfigError.of(
            "residue",
            wrong=f"{name!r} is not 1 to 8 letters and digits",
            consequence="nothing was written",
            remedy="Give the name that the residue has in the topology",
        )


def dcm_residue(molecule: ChargedMolecule, name: str = RESIDUE) -> DcmResidue:
    """Returns the charges of a molecule in local frames.

    Args:
        molecule: With its charges, in the geometry that fixes them.
        name: Name of the residue in CHARMM's topology.

    Raises:
        SourceError: The molecule has fewer than three atoms or is linear: no frame exists.
        ConfigError: The name is none that CHARMM can read.
    """
    structure = molecule.structure
    check_residue(name)
    chosen = choose_frames(structure.atomic_numbers, structure.positions)
    if not chosen:
        raise SourceError.of(
            structure.place,
            wrong=f"its {structure.n_atoms} atoms lie on a line; a frame of CHARMM's needs three "
            "that do not",
            consequence="its charges cannot be written as .dcm",
            remedy="Write .xml for OpenMM, whose virtual sites hold linear molecules, or .xyz",
        )
    frames = []
    for frame in chosen:
        first, second, third = (
            _local(molecule, frame.atoms, atom) if atom in frame.owners else np.zeros((0, 4))
            for atom in frame.atoms
        )
        frames.append(FrameCharges(frame.atoms, (first, second, third)))
    return DcmResidue(name, tuple(frames))


def write_dcm(path: Path, molecule: ChargedMolecule, name: str = RESIDUE, title: str = "") -> None:
    """Writes a molecule for CHARMM's DCM module.

    Args:
        path: The file.
        molecule: With its charges.
        name: Name of the residue in CHARMM's topology.
        title: Where the charges come from; a comment.

    Raises:
        SourceError: No frame exists; see ``dcm_residue``.
        ConfigError: The name is none that CHARMM can read.
    """
    residue = dcm_residue(molecule, name)
    comment = f"! residue name; {title}" if title else "! residue name"
    lines = [
        "1 0          ! no. residue types defined here, no. flexible charge residues",
        "",
        f"{residue.name}  {' '.join(comment.split())}",
        f"{len(residue.frames)}          ! no. axis system frames",
    ]
    for number, frame in enumerate(residue.frames, start=1):
        indices = "  ".join(str(atom + 1) for atom in frame.atoms)
        lines.append(f" {indices} {_AXES}  ! atom indices involved in frame {number}")
        for atom, local in zip(frame.atoms, frame.charges, strict=True):
            count = f"{len(local)}  0"
            lines.append(f"{count}          ! no. chgs and polarizable sites for atom {atom + 1}")
            lines += ["".join(f"{value:18.10f}" for value in row) for row in local]
    path.write_text("\n".join([*lines, "", ""]), encoding="utf-8")


def read_dcm(path: str | Path) -> tuple[DcmResidue, ...]:
    """Reads a ``.dcm`` file.

    Args:
        path: The file; frames of bonds ("BO"), without polarizable sites.

    Raises:
        SourceError: It is another kind of file, damaged, or has other frames.
    """
    words = [
        line.split("!")[0].split() for line in Path(path).read_text(encoding="utf-8").splitlines()
    ]
    lines = iter([line for line in words if line])
    try:
        count = int(next(lines)[0])
        return tuple([_read_residue(lines) for _ in range(count)])
    except (ValueError, IndexError, StopIteration) as error:
        raise SourceError.of(
            str(path),
            wrong="this is no .dcm file with frames along bonds (BO): "
            f"{str(error) or 'it ends too soon'}",
            consequence="its charges were not read",
            remedy="Give a file as 'dcmnet predict --out FILE.dcm' writes it",
        ) from error


def _read_residue(lines: Iterator[list[str]]) -> DcmResidue:
    name = next(lines)[0]
    frames = []
    for _ in range(int(next(lines)[0])):
        a, b, c, axes = next(lines)
        if axes != _AXES:
            raise ValueError(f"frames of kind {axes}")
        charges = []
        for _atom in range(3):
            count, polarizable = (int(word) for word in next(lines))
            if polarizable:
                raise ValueError("polarizable sites")
            rows = [[float(word) for word in next(lines)] for _ in range(count)]
            charges.append(np.array(rows).reshape(count, 4))
        atoms = (int(a) - 1, int(b) - 1, int(c) - 1)
        frames.append(FrameCharges(atoms, (charges[0], charges[1], charges[2])))
    return DcmResidue(name, tuple(frames))


def _local(
    molecule: ChargedMolecule, frame: tuple[int, int, int], atom: int
) -> Float[np.ndarray, "n 4"]:
    mine = molecule.atom == atom
    axes = local_axes(frame, atom, molecule.structure.positions)
    local = molecule.displacements[mine] @ axes.T
    return np.concatenate([local, molecule.charges[mine, None]], axis=1)
