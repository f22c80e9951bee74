"""What the shapes of a file allow: number of molecules, widths, and readings of each key."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from pipeline.adapters.columns import Column
from store_schema.problems import SourceError
from store_schema.semantics import Shape, meanings

# Costs of reading an array in a shape it is not written in; a reading of the file
# is the one whose keys cost least together.
_SQUEEZED, _FLAT, _SHARED, _NO_FIT = 0.25, 1.0, 0.5, 10.0


# What may be written as text; all else is numbers.
_TEXT = ("molecule_id", "energy")


@dataclass(frozen=True)
class Fit:
    """One reading of a key that its shape allows.

    Attributes:
        semantics: Name of the meaning.
        symbols: Shape of a molecule's value, with ``A`` and ``G``; axes of length one left out.
        shape: The same in numbers.
        shared: The array is given once for all molecules.
    """

    semantics: str
    symbols: Shape
    shape: tuple[int, ...]
    shared: bool = False

    def lengths(self, sizes: Mapping[str, int]) -> tuple[int, ...]:
        """Returns the shape for other widths of ``A`` and ``G``."""
        return tuple(sizes[s] if isinstance(s, str) else s for s in self.symbols)

    def reads_as(self, other: Fit) -> bool:
        """Says whether both mean the same in the same shape, widths aside."""
        return (self.semantics, self.symbols) == (other.semantics, other.symbols)


@dataclass(frozen=True)
class Layout:
    """How the arrays of a file are to be read.

    Attributes:
        n_molecules: Molecules in the file.
        max_atoms: A, padded number of atoms.
        max_grid: G, padded number of grid points; 0 without a grid.
        single: The file has no molecule axis.
        fits: Readings of each known key, the cheapest first.
        kept: Shape a molecule of the keys that are kept under their own names.
        ignored: Keys that are stored nowhere, with the reason.
    """

    n_molecules: int
    max_atoms: int
    max_grid: int
    single: bool
    fits: Mapping[str, tuple[Fit, ...]]
    kept: Mapping[str, tuple[int, ...]]
    ignored: Mapping[str, str]

    def key_of(self, semantics: str) -> str | None:
        """Returns the first key that can only mean this."""
        for key, fits in self.fits.items():
            if {fit.semantics for fit in fits} == {semantics}:
                return key
        return None


def propose(columns: Mapping[str, Column], place: str) -> Layout:
    """Reads the shapes of a file.

    Args:
        columns: Header of each key.
        place: The file, for error messages.

    Raises:
        SourceError: There are no atomic numbers or positions, or their shapes do not fit
            each other.
    """
    numbers = _named(columns, "atomic_numbers")
    positions = _named(columns, "positions")
    if numbers is None or positions is None:
        raise SourceError.of(
            place,
            expected="atomic numbers (Z) and positions (R)",
            received="keys " + (", ".join(columns) or "none"),
            consequence="there are no molecules to store",
            remedy="Rename the keys, or join files of the same molecules as a.npz+b.npz",
        )
    readings = [
        (cost, n, width)
        for n in _counts(columns, numbers, positions)
        for cost, width in [_cost(columns, numbers, positions, n)]
        if width is not None
    ]
    if not readings:
        raise SourceError.of(
            f"{place}, {numbers} and {positions}",
            expected="shapes such as (n, A) and (n, A, 3)",
            received=f"{columns[numbers].shape} and {columns[positions].shape}",
            consequence="atoms cannot be given their positions",
            remedy="Store both arrays with the same molecules and atoms",
        )
    _, n, widths = min(readings, key=lambda reading: reading[:2])
    return _layout(columns, n, *widths)


def _layout(columns: Mapping[str, Column], n: int, atoms: int, grid: int) -> Layout:
    fits: dict[str, tuple[Fit, ...]] = {}
    kept: dict[str, tuple[int, ...]] = {}
    ignored: dict[str, str] = {}
    positions = _named(columns, "positions")
    single = n == 1 and positions is not None and columns[positions].shape == (atoms, 3)
    for key, column in columns.items():
        options = _fits(key, column, n, atoms, grid)
        if options:
            fits[key] = options
        elif single and column.dtype.kind in "biuf":
            kept[key] = column.shape
        elif not column.shape:
            ignored[key] = "metadata of the file"
        elif meanings(key) and {m.name for m in meanings(key)} <= {"n_atoms", "n_grid"}:
            ignored[key] = f"its shape {column.shape} does not belong to {n} molecules"
        elif column.shape[0] == n:
            kept[key] = column.shape[1:]
        else:
            ignored[key] = f"its shape {column.shape} does not belong to {n} molecules"
    return Layout(n, atoms, grid, single, fits, kept, ignored)


def _fits(key: str, column: Column, n: int, atoms: int, grid: int) -> tuple[Fit, ...]:
    """Readings of a key, one for each meaning, the cheapest first."""
    shape = column.shape
    found: dict[str, tuple[float, Fit]] = {}
    sizes = {"A": atoms, "G": grid}
    for meaning in meanings(key):
        if column.dtype.kind in "US" and meaning.name not in _TEXT:
            continue
        for symbols in meaning.shapes:
            target = tuple(sizes[s] if isinstance(s, str) else s for s in symbols)
            plain = tuple(s for s in symbols if s != 1)
            lengths = tuple(sizes[s] if isinstance(s, str) else s for s in plain)
            cost = reshape_cost(shape, (n, *target))
            shared = False
            if cost is None and meaning.name == "atomic_numbers" and shape == target:
                cost, shared = _SHARED, True
            if cost is not None and cost < found.get(meaning.name, (_NO_FIT,))[0]:
                found[meaning.name] = (cost, Fit(meaning.name, plain, lengths, shared))
    return tuple(fit for _, fit in sorted(found.values(), key=lambda item: item[0]))


def reshape_cost(shape: tuple[int, ...], target: tuple[int, ...]) -> float | None:
    """Says how far a shape is from the one it is read in; None if a reshape scrambles it.

    Only axes of length one and neighbouring axes that were merged are undone, which
    leaves every value with its molecule.
    """
    if shape == target:
        return 0.0
    if math.prod(shape) != math.prod(target):
        return None
    rest = [length for length in target if length != 1]
    given = [length for length in shape if length != 1]
    if given == rest:
        return _SQUEEZED
    for length in given:
        product = 1
        while rest and product < length:
            product *= rest.pop(0)
        if product != length:
            return None
    return _FLAT


def _counts(columns: Mapping[str, Column], numbers: str, positions: str) -> Iterator[int]:
    """Numbers of molecules that the shapes suggest."""
    counts = {1} | {column.shape[0] for column in columns.values() if column.shape}
    atoms = math.prod(columns[numbers].shape)
    if atoms:
        counts.add(math.prod(columns[positions].shape) // (3 * atoms))
    yield from sorted(count for count in counts if count > 0)


def _cost(
    columns: Mapping[str, Column], numbers: str, positions: str, n: int
) -> tuple[float, tuple[int, int] | None]:
    """Cost of reading the whole file as ``n`` molecules, with its A and G."""
    atoms, rest = divmod(math.prod(columns[positions].shape), 3 * n)
    if rest or not atoms:
        return math.inf, None
    grid = 0
    for semantics, components in (("vdw_surface", 3), ("esp", 1)):
        key = _named(columns, semantics)
        if key is not None and math.prod(columns[key].shape) % (components * n) == 0:
            grid = math.prod(columns[key].shape) // (components * n)
    total = 0.0
    for key, column in columns.items():
        if not meanings(key):
            continue
        options = [
            cost
            for meaning in meanings(key)
            for symbols in meaning.shapes
            for cost in [_symbolic_cost(column.shape, symbols, n, atoms, grid)]
            if cost is not None
        ]
        if key == numbers and column.shape == (atoms,) and n > 1:
            options.append(_SHARED)
        if not options and key in (numbers, positions):
            return math.inf, None
        total += min(options, default=_NO_FIT)
    return total, (atoms, grid)


def _symbolic_cost(
    shape: tuple[int, ...], symbols: Shape, n: int, atoms: int, grid: int
) -> float | None:
    sizes = {"A": atoms, "G": grid}
    return reshape_cost(shape, (n, *(sizes[s] if isinstance(s, str) else s for s in symbols)))


def _named(columns: Mapping[str, Column], semantics: str) -> str | None:
    """The first key whose alias can mean only this."""
    for key in columns:
        column = columns[key]
        if column.dtype.kind in "US" and semantics not in _TEXT:
            continue
        if tuple(m.name for m in meanings(key)) == (semantics,) and column.shape:
            return key
    return None
