"""A batch of molecules: what the loader yields and the model reads.

Zero is padding everywhere, and a mask says where; a target that a molecule
does not have is zero with its presence mask false. A batch never holds NaN.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float32, Int32

# Variables of the store that a batch can carry; the first two are always there.
STRUCTURE_FIELDS = ("atomic_numbers", "positions")
GRID_FIELDS = ("esp", "vdw_surface", "electric_field")
WHOLE_MOLECULE_FIELDS = ("total_charge", "dipole", "dipole_magnitude", "quadrupole")
TARGETS = ("monopoles", *WHOLE_MOLECULE_FIELDS, *GRID_FIELDS)
FIELDS = (*STRUCTURE_FIELDS, *TARGETS)


class BatchShape(NamedTuple):
    """Padded sizes of a batch; XLA compiles once for each.

    Attributes:
        molecules: B, molecules per batch.
        atoms: A, atoms per molecule.
        grid_points: G, ESP grid points per molecule.
        pairs: P, pairs of atoms within the cutoff in the whole batch.
    """

    molecules: int
    atoms: int
    grid_points: int
    pairs: int


class MoleculeBatch(NamedTuple):
    """B molecules padded to A atoms and G grid points, with P pairs of atoms.

    A named tuple of arrays is a JAX pytree as it stands. Which fields a loader
    was asked for changes values and masks, never the structure; without grid
    fields G is 0.

    Attributes:
        atomic_numbers: Atomic numbers, 0 at padding.
        positions: Nuclear positions in Å.
        atom_mask: True for atoms.
        total_charge: Net charge of each molecule in e.
        monopoles: Reference atomic charges in e.
        esp: Reference ESP in hartree/e.
        vdw_surface: Grid points of the ESP in Å.
        electric_field: Reference electric field at these points in hartree/e/bohr; F is G, or 0
            where no molecule has one.
        grid_mask: True for grid points.
        dipole: Molecular dipole about the origin of the positions in e·Å.
        dipole_magnitude: Norm of the molecular dipole in e·Å.
        quadrupole: Molecular quadrupole about the origin in e·Å².
        molecule_mask: True for molecules; the last batch is filled up with empty ones.
        molecule_index: Row of the molecule in the store (or in the sequence the batch was
            made from), -1 for an empty one.
        has_total_charge: True where the total charge is known.
        has_monopoles: True where the monopoles are known.
        has_esp: True where the ESP is known.
        has_electric_field: True where the electric field is known.
        has_dipole: True where the dipole vector is known.
        has_dipole_magnitude: True where the norm of the dipole is known.
        has_quadrupole: True where the quadrupole is known.
        pair_dst: Receiving atom of each pair, an index into the B·A atoms of the batch; ascending.
        pair_src: Sending atom of each pair, likewise.
        pair_mask: True for pairs; the others join the last atom slot to itself.
    """

    atomic_numbers: Int32[np.ndarray, "B A"]
    positions: Float32[np.ndarray, "B A 3"]
    atom_mask: Bool[np.ndarray, "B A"]
    total_charge: Float32[np.ndarray, " B"]
    monopoles: Float32[np.ndarray, "B A"]
    esp: Float32[np.ndarray, "B G"]
    vdw_surface: Float32[np.ndarray, "B G 3"]
    electric_field: Float32[np.ndarray, "B F 3"]
    grid_mask: Bool[np.ndarray, "B G"]
    dipole: Float32[np.ndarray, "B 3"]
    dipole_magnitude: Float32[np.ndarray, " B"]
    quadrupole: Float32[np.ndarray, "B 3 3"]
    molecule_mask: Bool[np.ndarray, " B"]
    molecule_index: Int32[np.ndarray, " B"]
    has_total_charge: Bool[np.ndarray, " B"]
    has_monopoles: Bool[np.ndarray, " B"]
    has_esp: Bool[np.ndarray, " B"]
    has_electric_field: Bool[np.ndarray, " B"]
    has_dipole: Bool[np.ndarray, " B"]
    has_dipole_magnitude: Bool[np.ndarray, " B"]
    has_quadrupole: Bool[np.ndarray, " B"]
    pair_dst: Int32[np.ndarray, " P"]
    pair_src: Int32[np.ndarray, " P"]
    pair_mask: Bool[np.ndarray, " P"]

    @property
    def shape(self) -> BatchShape:
        """Padded sizes of this batch."""
        molecules, atoms = self.atomic_numbers.shape
        return BatchShape(molecules, atoms, self.esp.shape[1], self.pair_dst.shape[0])
