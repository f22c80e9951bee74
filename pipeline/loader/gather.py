"""Gathers and pads a batch from molecules in memory.

Few numpy calls a batch, no Python for an atom or a point. Only the grid, most
of the bytes, is copied molecule by molecule: one copy each, and its padding is
never read.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float32, Int, Int64, Shaped

from pipeline.loader.batch import BatchShape, MoleculeBatch
from pipeline.loader.buffer import MoleculeBuffer
from pipeline.loader.pairs import find_pairs, pad_pairs


def gather(
    buffer: MoleculeBuffer,
    slots: Int[np.ndarray, " n"],
    shape: BatchShape,
    cutoff: float,
    points: Int64[np.ndarray, "n G"] | None = None,
) -> MoleculeBatch:
    """Makes a batch of the given molecules.

    Args:
        buffer: Molecules in memory.
        slots: Places in the buffer of at most B molecules; empty ones follow them.
        shape: Padded sizes, which the molecules fit into.
        cutoff: Distance in Å below which two atoms are a pair.
        points: Grid points to take of each molecule, -1 for none; all by default.
    """
    B, A, _, P = shape
    n = len(slots)
    n_atoms = np.zeros(B, np.int32)
    n_atoms[:n] = buffer.n_atoms[slots]
    molecule_index = np.full(B, -1, np.int32)
    molecule_index[:n] = buffer.rows[slots]
    atom_mask = np.arange(A) < n_atoms[:, None]
    atom_index = np.zeros((B, A), np.int64)
    atom_index[:n] = buffer.atom_start[slots, None] + np.arange(A)

    positions = _take(buffer.fields["positions"], atom_index, atom_mask)
    molecule_mask = molecule_index >= 0
    molecule_slots = np.zeros(B, np.int64)
    molecule_slots[:n] = slots
    targets = {
        name: _target(buffer, name, molecule_slots, molecule_mask, trailing)
        for name, trailing in _PER_MOLECULE.items()
    }
    monopoles, has_monopoles = _monopoles(buffer, atom_index, atom_mask)
    esp, vdw_surface, grid_mask, has_esp = _grid(buffer, slots, shape, points)
    pairs = pad_pairs(*find_pairs(positions, atom_mask, cutoff), P, B * A - 1)
    return MoleculeBatch(
        atomic_numbers=_take(buffer.fields["atomic_numbers"], atom_index, atom_mask),
        positions=positions,
        atom_mask=atom_mask,
        total_charge=targets["total_charge"][0],
        monopoles=monopoles,
        esp=esp,
        vdw_surface=vdw_surface,
        grid_mask=grid_mask,
        dipole=targets["dipole"][0],
        dipole_magnitude=targets["dipole_magnitude"][0],
        quadrupole=targets["quadrupole"][0],
        molecule_mask=molecule_mask,
        molecule_index=molecule_index,
        has_total_charge=targets["total_charge"][1],
        has_monopoles=has_monopoles,
        has_esp=has_esp,
        has_dipole=targets["dipole"][1],
        has_dipole_magnitude=targets["dipole_magnitude"][1],
        has_quadrupole=targets["quadrupole"][1],
        pair_dst=pairs[0],
        pair_src=pairs[1],
        pair_mask=pairs[2],
    )


_PER_MOLECULE: dict[str, tuple[int, ...]] = {
    "total_charge": (),
    "dipole": (3,),
    "dipole_magnitude": (),
    "quadrupole": (3, 3),
}


def _take(
    flat: Shaped[np.ndarray, "entry ..."],
    index: Int64[np.ndarray, "B ..."],
    mask: Bool[np.ndarray, "B ..."],
) -> Shaped[np.ndarray, "B ..."]:
    """Takes entries where the mask is true, zero elsewhere."""
    taken = flat.take(index, axis=0, mode="clip")
    taken[~mask] = 0
    return taken


def _target(
    buffer: MoleculeBuffer,
    name: str,
    slots: Int64[np.ndarray, " B"],
    molecule_mask: Bool[np.ndarray, " B"],
    trailing: tuple[int, ...],
) -> tuple[Float32[np.ndarray, "B ..."], Bool[np.ndarray, " B"]]:
    """Takes a quantity of the whole molecule, and whether each molecule has it."""
    flat = buffer.fields.get(name)
    if flat is None:
        return np.zeros((len(slots), *trailing), np.float32), np.zeros(len(slots), bool)
    taken = flat.take(slots, axis=0, mode="clip")
    present = molecule_mask & np.isfinite(taken.reshape(len(slots), -1)).all(axis=1)
    taken[~present] = 0
    return taken, present


def _monopoles(
    buffer: MoleculeBuffer, index: Int64[np.ndarray, "B A"], mask: Bool[np.ndarray, "B A"]
) -> tuple[Float32[np.ndarray, "B A"], Bool[np.ndarray, " B"]]:
    """Takes the monopoles; a molecule that lacks one of them has none."""
    flat = buffer.fields.get("monopoles")
    if flat is None:
        return np.zeros(mask.shape, np.float32), np.zeros(len(mask), bool)
    taken = _take(flat, index, mask)
    present = np.isfinite(taken).all(axis=1) & mask.any(axis=1)
    taken[~present] = 0
    return taken, present


def _grid(
    buffer: MoleculeBuffer,
    slots: Int[np.ndarray, " n"],
    shape: BatchShape,
    points: Int64[np.ndarray, "n G"] | None,
) -> tuple[
    Float32[np.ndarray, "B G"],
    Float32[np.ndarray, "B G 3"],
    Bool[np.ndarray, "B G"],
    Bool[np.ndarray, " B"],
]:
    """Takes ESP, grid, mask of the grid and whether each molecule has an ESP."""
    B, _, G, _ = shape
    n_grid = np.zeros(B, np.int64)
    n_grid[: len(slots)] = buffer.n_grid[slots]
    if points is not None:
        n_grid[: len(slots)] = (points >= 0).sum(axis=1)
    grid_mask = np.arange(G) < n_grid[:, None]
    starts = buffer.grid_start[slots]
    lengths = n_grid[: len(slots)]
    esp = _copy_grid(buffer.fields.get("esp"), starts, lengths, (B, G), points)
    vdw_surface = _copy_grid(buffer.fields.get("vdw_surface"), starts, lengths, (B, G, 3), points)
    # A sum is NaN where any term is: one pass, and no array of flags.
    has_esp = np.isfinite(esp.sum(axis=1)) & (n_grid > 0) & ("esp" in buffer.fields)
    esp[~has_esp] = 0
    has_grid = np.isfinite(vdw_surface.reshape(B, -1).sum(axis=1))
    if not has_grid.all():
        for array in (vdw_surface, grid_mask, esp, has_esp):
            array[~has_grid] = 0
    return esp, vdw_surface, grid_mask, has_esp


def _copy_grid(
    flat: Float32[np.ndarray, "entry ..."] | None,
    starts: Int64[np.ndarray, " n"],
    lengths: Int64[np.ndarray, " n"],
    shape: tuple[int, ...],
    points: Int64[np.ndarray, "n G"] | None,
) -> Float32[np.ndarray, "B G ..."]:
    """Copies one grid field molecule by molecule, with zeros behind each."""
    if flat is None:
        return np.zeros(shape, np.float32)
    padded = np.empty(shape, np.float32)
    for i, (start, length) in enumerate(zip(starts.tolist(), lengths.tolist(), strict=True)):
        if points is None:
            padded[i, :length] = flat[start : start + length]
        else:
            flat.take(start + points[i, :length], axis=0, out=padded[i, :length], mode="clip")
        padded[i, length:] = 0
    padded[len(starts) :] = 0
    return padded
