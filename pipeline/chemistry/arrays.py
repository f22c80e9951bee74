"""Atoms and grid points of a block as its file has them: what is real and what is padding."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

import numpy as np
from ase.data import atomic_numbers
from jaxtyping import Bool, Float, Int

# No molecule is this large in any unit of length; files pad with 1e4 and 1e6.
_SENTINEL: Final = 999.0
# What an atomic number becomes that is negative or not whole; no check takes it for an element.
NO_ELEMENT: Final = 10**6
_WHOLE: Final = 1e-3
# Points looked at first for padding, from the end.
_FIRST_STEP: Final = 16


_LARGEST: Final = float(np.finfo(np.float32).max)


def storable(values: np.ndarray) -> np.ndarray:
    """Returns floating-point values with NaN for what float32 cannot hold, such as infinity."""
    if values.dtype.kind != "f":
        return values
    lost = np.isinf(values) if values.itemsize < 8 else np.abs(values) > _LARGEST
    return np.where(lost, np.nan, values).astype(values.dtype) if lost.any() else values


def numeric(values: np.ndarray) -> np.ndarray:
    """Returns numbers that may be written as text; what cannot be read is NaN."""
    if values.dtype.kind not in "US":
        return values.astype(np.float64)
    numbers = np.full(values.shape, np.nan)
    for index, text in np.ndenumerate(values):
        try:
            numbers[index] = float(text)
        except ValueError:
            continue
    return numbers


_ISOTOPES: Final = ("D", "T")


def element_numbers(values: np.ndarray) -> np.ndarray:
    """Returns atomic numbers that may be written as symbols of elements; 0 for no text.

    What is no symbol becomes ``NO_ELEMENT``.
    """
    if values.dtype.kind not in "US":
        return values
    names, places = np.unique(values, return_inverse=True)
    numbers = [_element_number(_text(name)) for name in names.tolist()]
    return np.array(numbers, np.int64)[places].reshape(values.shape)


def _text(name: str | bytes) -> str:
    return name.decode("utf-8", errors="replace") if isinstance(name, bytes) else name


def _element_number(name: str) -> int:
    name = name.strip()
    if not name:
        return 0
    if name.removesuffix(".0").isdigit():
        return int(name.removesuffix(".0"))
    if name in _ISOTOPES:
        return 1
    return atomic_numbers.get(name.capitalize(), NO_ELEMENT) or NO_ELEMENT


class Atoms(NamedTuple):
    """Atoms of a block, real ones first, in the file's unit.

    Attributes:
        numbers: Atomic numbers, 0 at padding.
        positions: Positions, NaN at padding.
        mask: True for atoms.
        order: Original atom slot of each slot; None where padding was trailing already.
    """

    numbers: Int[np.ndarray, "molecule atom"]
    positions: Float[np.ndarray, "molecule atom 3"]
    mask: Bool[np.ndarray, "molecule atom"]
    order: Int[np.ndarray, "molecule atom"] | None = None

    def per_atom(self, values: np.ndarray) -> np.ndarray:
        """Puts per-atom values into the order of the atoms, NaN at padding."""
        values = np.array(values, dtype=np.float64)
        if self.order is not None:
            rows = np.arange(len(values))[:, None]
            values = values[rows, self.order]
        values = values[:, : self.mask.shape[1]]
        values[~self.mask] = np.nan
        return values


class Grid(NamedTuple):
    """ESP grid of a block, in the file's units; NaN at padding.

    Attributes:
        points: Grid points; NaN where the file has none.
        esp: ESP; NaN where the file has none.
        n_grid: Real points of each molecule.
        given: What the file says their number is; None if it does not.
        unpadded: Points of each molecule that are no padding, whatever the file says.
        width: Points that a molecule has room for in the file.
        field: Electric field; None where the file has none.
    """

    points: Float[np.ndarray, "molecule point 3"]
    esp: Float[np.ndarray, "molecule point"]
    n_grid: Int[np.ndarray, " molecule"]
    given: Int[np.ndarray, " molecule"] | None
    unpadded: Int[np.ndarray, " molecule"]
    width: int
    field: Float[np.ndarray, "molecule point 3"] | None = None

    @property
    def mask(self) -> Bool[np.ndarray, "molecule point"]:
        """True for real points."""
        return np.arange(self.points.shape[1]) < self.n_grid[:, None]

    def keeping(self, keep: Bool[np.ndarray, "molecule point"]) -> Grid:
        """Returns the grid without some points, the others in their order."""
        keep = keep & self.mask
        order = np.argsort(~keep, axis=1, kind="stable")
        counts = keep.sum(axis=1)
        width = int(counts.max(initial=0))
        dropped = self.n_grid - counts
        padding = np.arange(width) >= counts[:, None]

        def kept(values: np.ndarray) -> np.ndarray:
            by_point = order.reshape(*order.shape, *[1] * (values.ndim - 2))
            found = np.take_along_axis(values, by_point, axis=1)[:, :width]
            found[padding] = np.nan
            return found

        given = None if self.given is None else np.where(self.given > 0, self.given - dropped, 0)
        return Grid(
            kept(self.points),
            kept(self.esp),
            counts,
            given,
            self.unpadded - dropped,
            self.width,
            None if self.field is None else kept(self.field),
        )


def read_atoms(numbers: np.ndarray, positions: np.ndarray) -> Atoms:
    """Tells atoms from padding by their atomic number, and trims what is all padding.

    An atom at the origin is an atom; the order of the atoms is kept. An atomic number of -1
    without a position is padding as well; any other negative one is an atom of no element.

    Args:
        numbers: Atomic numbers (molecule, atom), of any numeric type.
        positions: Positions (molecule, atom, 3).
    """
    numbers = np.nan_to_num(element_numbers(numbers).astype(np.float64), nan=0.0)
    positions = storable(positions)
    negative = numbers < 0
    if negative.any():
        padding = (numbers == -1) & ~np.nan_to_num(positions).any(axis=-1)
        numbers = np.where(negative, np.where(padding, 0, NO_ELEMENT), numbers)
    mask = numbers > 0
    order = None
    if (np.diff(mask.astype(np.int8), axis=1) > 0).any():
        order = np.argsort(~mask, axis=1, kind="stable")
        rows = np.arange(len(mask))[:, None]
        numbers, mask, positions = numbers[rows, order], mask[rows, order], positions[rows, order]
    width = int(mask.sum(axis=1).max(initial=0))
    mask = mask[:, :width]
    bounded = np.minimum(numbers[:, :width], NO_ELEMENT)
    whole = np.abs(bounded - np.rint(bounded)) < _WHOLE
    rounded = np.where(mask, np.where(whole, np.rint(bounded), NO_ELEMENT), 0).astype(np.int64)
    placed = np.array(positions[:, :width], dtype=np.float64)
    placed[~mask] = np.nan
    return Atoms(rounded, placed, mask, order)


def read_grid(columns: Mapping[str, np.ndarray], keys: Mapping[str, str], n: int) -> Grid:
    """Tells grid points from padding and trims what is all padding.

    Padding is the run of identical points at the end of a row, whatever value they have,
    or a single one at the origin, far outside any molecule, or NaN. Where the file's own count is
    larger than what is left, it counted padding, and the smaller number holds.

    Args:
        columns: Arrays of the block.
        keys: Key of ``vdw_surface``, ``esp``, ``electric_field``, ``n_grid`` and ``esp_mask``,
            where the file has them.
        n: Molecules in the block.
    """
    points = _floating(columns[keys["vdw_surface"]]) if "vdw_surface" in keys else None
    esp = _floating(columns[keys["esp"]]) if "esp" in keys else None
    given = _counts(columns[keys["n_grid"]]) if "n_grid" in keys else None
    if points is None and esp is None:
        none = np.zeros(n, dtype=np.int64)
        return Grid(np.zeros((n, 0, 3)), np.zeros((n, 0)), none, given, none, 0)
    rows = points if points is not None else esp
    assert rows is not None
    n_grid = unpadded = rows.shape[1] - _trailing_padding(rows.reshape(n, rows.shape[1], -1))
    if esp is not None:
        n_grid = unpadded = np.minimum(n_grid, esp.shape[1] - _trailing_nan(esp))
    if given is not None:
        n_grid = np.where(given > 0, np.minimum(n_grid, given), n_grid)
    width = int(n_grid.max(initial=0))
    padding = np.arange(width) >= n_grid[:, None]
    placed = np.full((n, width, 3), np.nan, dtype=np.float32 if points is None else points.dtype)
    potential = np.full((n, width), np.nan, dtype=np.float32 if esp is None else esp.dtype)
    if points is not None:
        placed[:] = points[:, :width]
        placed[padding] = np.nan
    if esp is not None:
        potential[:] = esp.reshape(n, -1)[:, :width]
        potential[padding] = np.nan
    field = None
    if "electric_field" in keys:
        field = np.array(_floating(columns[keys["electric_field"]])[:, :width])
        field[padding] = np.nan
    grid = Grid(placed, potential, n_grid, given, unpadded, rows.shape[1], field)
    if "esp_mask" in keys:
        given = columns[keys["esp_mask"]].reshape(n, -1)[:, :width]
        return grid.keeping(np.nan_to_num(given.astype(np.float64)) > 0)
    return grid


def _floating(values: np.ndarray) -> np.ndarray:
    """The values, in no more than the precision they have, and no less than the store's."""
    plain = values.dtype in (np.float32, np.float64)
    return storable(values if plain else values.astype(np.float64))


def _counts(values: np.ndarray) -> Int[np.ndarray, " molecule"]:
    plain = np.nan_to_num(values.astype(np.float64), nan=0.0, posinf=0.0, neginf=0.0)
    return np.rint(np.clip(plain, -1, 1e9)).astype(np.int64)


def finite_rows(points: Float[np.ndarray, "*shape 3"]) -> Bool[np.ndarray, "*shape"]:
    """Says which points have a place; component by component, as a row of three is short."""
    return np.isfinite(points[..., 0]) & np.isfinite(points[..., 1]) & np.isfinite(points[..., 2])


def usable_points(
    points: Float[np.ndarray, "molecule point 3"], esp: Float[np.ndarray, "molecule point"]
) -> Bool[np.ndarray, "molecule point"]:
    """Says which points have a place and an ESP."""
    return np.isfinite(esp) & finite_rows(points)


def _trailing_padding(
    rows: Float[np.ndarray, "molecule point k"],
) -> Int[np.ndarray, " molecule"]:
    """Length of the run of padding at the end of each row."""
    if not rows.shape[1]:
        return np.zeros(len(rows), dtype=np.int64)
    last = rows[:, -1]
    missing = np.isnan(last)

    def same(part: np.ndarray, which: np.ndarray) -> np.ndarray:
        found = np.ones(part.shape[:2], dtype=bool)
        for component in range(rows.shape[2]):
            values, end = part[..., component], last[which, None, component]
            found &= (values == end) | (missing[which, None, component] & np.isnan(values))
        return found

    run = _trailing(rows, same)
    # One point alone is padding only by its value; two at the same place are no grid.
    size = np.abs(last)
    marked = ~(size < _SENTINEL).all(axis=-1) | (size == 0).all(axis=-1)
    return np.where((run > 1) | marked, run, 0)


def _trailing_nan(rows: Float[np.ndarray, "molecule point"]) -> Int[np.ndarray, " molecule"]:
    """Length of the run of NaN at the end of each row."""
    return _trailing(rows, lambda part, _: np.isnan(part))


def _trailing(
    rows: np.ndarray, padding: Callable[[np.ndarray, np.ndarray], np.ndarray]
) -> Int[np.ndarray, " molecule"]:
    """Length of the run at the end of each row for which ``padding`` holds.

    From the end in steps, each only of rows whose run has not ended: most end at once.
    """
    run = np.zeros(len(rows), dtype=np.int64)
    open_rows, stop, step = np.arange(len(rows)), rows.shape[1], _FIRST_STEP
    while stop > 0 and open_rows.size:
        start = max(0, stop - step)
        part = rows[:, start:stop] if len(open_rows) == len(rows) else rows[open_rows, start:stop]
        holds = padding(part, open_rows)[:, ::-1]
        length = np.where(holds.all(axis=1), holds.shape[1], holds.argmin(axis=1))
        run[open_rows] += length
        open_rows = open_rows[length == holds.shape[1]]
        stop, step = start, 4 * step
    return run
