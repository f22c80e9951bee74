"""Gathers and pads a batch from molecules in memory.

Few calls a batch, no Python for an atom or a point, and one copy of what is large.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float32, Int, Int32, Int64

from pipeline.loader.batch import GRID_FIELDS, WHOLE_MOLECULE_FIELDS, BatchShape, MoleculeBatch
from pipeline.loader.buffer import MoleculeBuffer, field_shape
from pipeline.loader.padding import mask_rows, take_points, take_rows
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
        buffer: Molecules in memory, at least as wide as `shape`.
        slots: Places in the buffer of at most B molecules; empty ones follow them.
        shape: Padded sizes, which the molecules fit into.
        cutoff: Distance in Å below which two atoms are a pair.
        points: Grid points to take of each molecule, -1 behind the last; all by default.

    Raises:
        ValueError: A molecule is larger than the shape; none is ever cut.
    """
    B, A, _, P = shape
    molecule_mask = np.arange(B) < len(slots)
    # Empty molecules are taken from the first slot and set to zero like all padding.
    slots = np.concatenate([slots, np.zeros(B - len(slots), np.int64)])
    n_atoms = np.where(molecule_mask, buffer.n_atoms[slots], np.int32(0))
    if n_atoms.max(initial=0) > A:
        raise ValueError(f"{n_atoms.max()} atoms do not fit into {A}")
    atom_mask = mask_rows(n_atoms, A)
    positions = take_rows(buffer.fields["positions"], slots, n_atoms, A)
    atomic_numbers = take_rows(buffer.fields["atomic_numbers"], slots, n_atoms, A)

    targets = {name: _target(buffer, name, slots, molecule_mask) for name in WHOLE_MOLECULE_FIELDS}
    targets["monopoles"] = _monopoles(buffer, slots, n_atoms, A)
    grid = _grid(buffer, slots, molecule_mask, shape, points)
    dst, src, pair_mask = pad_pairs(*find_pairs(positions, atom_mask, cutoff), P, B * A - 1)
    return MoleculeBatch(
        atomic_numbers=atomic_numbers,
        positions=positions,
        atom_mask=atom_mask,
        **grid,
        molecule_mask=molecule_mask,
        molecule_index=np.where(molecule_mask, buffer.rows[slots], np.int32(-1)),
        pair_dst=dst,
        pair_src=src,
        pair_mask=pair_mask,
        **{name: values for name, (values, _) in targets.items()},
        **{f"has_{name}": present for name, (_, present) in targets.items()},
    )


def _target(
    buffer: MoleculeBuffer,
    name: str,
    slots: Int64[np.ndarray, " B"],
    molecule_mask: Bool[np.ndarray, " B"],
) -> tuple[Float32[np.ndarray, "B ..."], Bool[np.ndarray, " B"]]:
    """Takes a quantity of the whole molecule, and whether each molecule has it."""
    B = len(slots)
    field = buffer.fields.get(name)
    if field is None:
        return np.zeros(field_shape(name, B, 0, 0), np.float32), np.zeros(B, bool)
    taken = field[slots]
    if not molecule_mask[-1]:
        taken[~molecule_mask] = 0
    return taken, buffer.present[name][slots] & molecule_mask


def _monopoles(
    buffer: MoleculeBuffer, slots: Int64[np.ndarray, " B"], n_atoms: Int32[np.ndarray, " B"], A: int
) -> tuple[Float32[np.ndarray, "B A"], Bool[np.ndarray, " B"]]:
    """Takes the monopoles; a molecule that lacks one of them has none.

    A minimum is NaN where any value is: one pass, and no array of flags.
    """
    field = buffer.fields.get("monopoles")
    if field is None:
        return np.zeros((len(slots), A), np.float32), np.zeros(len(slots), bool)
    taken = take_rows(field, slots, n_atoms, A)
    present = ~np.isnan(taken.min(axis=1)) & (n_atoms > 0)
    if not present.all():
        taken[~present] = 0
    return taken, present


def _grid(
    buffer: MoleculeBuffer,
    slots: Int64[np.ndarray, " B"],
    molecule_mask: Bool[np.ndarray, " B"],
    shape: BatchShape,
    points: Int64[np.ndarray, "n G"] | None,
) -> dict[str, np.ndarray]:
    """Takes ESP, grid, its mask, the field, and whether each molecule has the ESP and the field."""
    B, _, G, _ = shape
    n_grid = np.where(molecule_mask, buffer.n_grid[slots], np.int32(0))
    if points is not None:
        n_grid[: len(points)] = (points >= 0).sum(axis=1)
        # The same points of every grid field; none of an empty molecule.
        points = np.concatenate([points, np.full((B - len(points), G), -1)])

    if n_grid.max(initial=0) > G:
        raise ValueError(f"{n_grid.max()} grid points do not fit into {G}")

    def take(name: str) -> Float32[np.ndarray, "B G ..."]:
        field = buffer.fields.get(name)
        if field is None:
            return np.zeros(field_shape(name, B, 0, G), np.float32)
        if points is None:
            return take_rows(field, slots, n_grid, G)
        return take_points(field, slots, points)

    esp, vdw_surface, grid_mask = take("esp"), take("vdw_surface"), mask_rows(n_grid, G)
    has_field = "electric_field" in buffer.fields
    electric_field = take("electric_field") if has_field else np.zeros((B, 0, 3), np.float32)
    known = {name: buffer.present[name][slots] for name in GRID_FIELDS if name in buffer.present}
    has_grid = known.get("vdw_surface", np.ones(B, bool))
    there = (n_grid > 0) & has_grid
    has_esp = there & known.get("esp", np.zeros(B, bool))
    if not has_esp.all():
        esp[~has_esp] = 0
        grid_mask[~has_grid] = False
    return {
        "esp": esp,
        "vdw_surface": vdw_surface,
        "grid_mask": grid_mask,
        "has_esp": has_esp,
        "electric_field": electric_field,
        "has_electric_field": there & known.get("electric_field", np.zeros(B, bool)),
    }
