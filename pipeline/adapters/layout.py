"""What the shapes of a file allow: number of molecules, widths, and readings of each key."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from pipeline.adapters.columns import Column
from store_schema.problems import SourceError
from store_schema.semantics import ALIASES, SEMANTICS, UNKNOWN, Semantics, Shape, meanings

# Costs of reading an array in a shape it is not written in; a reading of the file
# is the one whose keys cost least together.
_SQUEEZED, _FLAT, _SHARED, _NO_FIT = 0.25, 1.0, 0.5, 10.0


# What may be written as text; all else is numbers.
_TEXT = ("molecule_id", "energy", "atomic_numbers", "total_charge")
# What may be given once for all molecules.
_ONCE = ("atomic_numbers", "vdw_surface")
COUNTS = {"n_atoms", "n_grid"}
# Axes of what each atom of each molecule has one of.
_OF_ATOMS = 2
# Why an entry without an axis is not stored.
METADATA = "metadata of the file"
# Text of the whole file, also where it is a list.
_UNITS = ("unit", "units")
# Why an array is not stored that may be of atoms or of molecules.
AMBIGUOUS = "it is as long as the atoms and as the geometries, and may be of either"


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
        kept: Shape per molecule of the keys that are kept under their own names.
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


class Names:
    """What keys may mean: as declared, or else by their names."""

    def __init__(self, declared: Mapping[str, str] | None = None) -> None:
        """Takes declared meanings, by key."""
        self._declared = dict(declared or {})

    def meanings(self, key: str) -> tuple[Semantics, ...]:
        """Returns every meaning that a key may have; none for an unknown one."""
        if key in self._declared:
            name = self._declared[key]
            return () if name == UNKNOWN else (SEMANTICS[name],)
        return meanings(key)

    def first(self, columns: Mapping[str, Column], semantics: str) -> str | None:
        """Returns the first key that can mean only this; one that is declared goes before."""
        for key in sorted(columns, key=lambda key: key not in self._declared):
            column = columns[key]
            if column.dtype.kind in "US" and semantics not in _TEXT:
                continue
            if tuple(m.name for m in self.meanings(key)) == (semantics,) and column.shape:
                return key
        return None

    def completed(self, columns: Mapping[str, Column]) -> Names:
        """Returns the names with integers called charges as atomic numbers, if no key has them.

        So QM9 is written for Cormorant and what follows it; charges of atoms are no integers.
        """
        if self.first(columns, "atomic_numbers") is None:
            for key, column in columns.items():
                meant = {meaning.name for meaning in self.meanings(key)}
                whole = column.dtype.kind in "iu" and len(column.shape) == _OF_ATOMS
                if meant == {"atomic_charges"} and whole and key not in self._declared:
                    return Names({**self._declared, key: "atomic_numbers"})
        return self


def propose(
    columns: Mapping[str, Column],
    place: str,
    names: Names | None = None,
    n_molecules: int | None = None,
) -> Layout:
    """Reads the shapes of a file.

    Args:
        columns: Header of each key.
        place: The file, for error messages.
        names: What keys may mean.
        n_molecules: Molecules in the file, where that is known.

    Raises:
        SourceError: There are no atomic numbers or positions, their shapes do not fit each
            other, or a known key has a length that fits nothing.
    """
    names = (names or Names()).completed(columns)
    numbers = names.first(columns, "atomic_numbers")
    positions = names.first(columns, "positions")
    if numbers is None or positions is None:
        lacks = {"atomic_numbers": numbers, "positions": positions}
        raise SourceError.of(
            place,
            wrong=(
                "atomic numbers (Z) and positions (R) are missing; its keys are "
                + (", ".join(columns) or "none")
            ),
            consequence="there are no molecules to store",
            remedy=name_remedy([name for name, key in lacks.items() if key is None]),
        )
    readings = [
        (cost, n, width)
        for n in ([n_molecules] if n_molecules else _counts(columns, numbers, positions))
        for cost, width in [_cost(columns, names, numbers, positions, n)]
        if width is not None
    ]
    if not readings:
        raise SourceError.of(
            f"{place}, {numbers} and {positions}",
            wrong=f"their shapes, {columns[numbers].shape} and {columns[positions].shape}, do "
            "not fit each other as (n, A) and (n, A, 3) do",
            consequence="atoms cannot be given their positions",
            remedy=_shape_remedy(columns[numbers].shape, columns[positions].shape),
        )
    _, n, widths = min(readings, key=lambda reading: reading[:2])
    length = columns[numbers].shape
    if n > 1 and len(length) == 1 and columns[positions].shape == (*length, 3):
        raise SourceError.of(
            f"{place}, {numbers} and {positions}",
            wrong=f"the atoms of {n} molecules lie one after the other, and no key such as N has "
            f"their numbers of atoms, which add up to {length[0]}",
            consequence="atoms cannot be given to molecules, and nothing was stored",
            remedy="Say which key has them with --declare KEY=n_atoms, or add one",
        )
    layout = _layout(columns, names, positions, n, widths)
    if n_molecules is None:
        layout = _without_ambiguous(layout, columns)
    _check_known(columns, names, layout, place)
    return layout


def _shape_remedy(numbers: tuple[int, ...], positions: tuple[int, ...]) -> str:
    """Says what to do about atomic numbers and positions whose shapes do not fit each other."""
    if len(positions) == 3 and positions == (numbers[0], 3, numbers[-1]):
        return "The axes of the positions may be exchanged: swap the last two"
    if len(numbers) == 3 and positions == (*numbers[:2], 3):
        return "The first may be one-hot codes of the elements: write their atomic numbers"
    return "Store both arrays with the same molecules and atoms"


def _without_ambiguous(layout: Layout, columns: Mapping[str, Column]) -> Layout:
    """Leaves out keys that may be of atoms, given once for all molecules, as well as of those."""
    n = layout.n_molecules
    shared = any(fits[0].shared for fits in layout.fits.values())
    if not shared or n != layout.max_atoms or n == 1:
        return layout
    ambiguous = {key for key in layout.kept if columns[key].shape == (n,)}
    return replace(
        layout,
        kept={key: shape for key, shape in layout.kept.items() if key not in ambiguous},
        ignored={**layout.ignored, **dict.fromkeys(sorted(ambiguous), AMBIGUOUS)},
    )


def name_remedy(lacking: Sequence[str]) -> str:
    """Says under which names what a file lacks is found, and how to name a key."""
    known = "; ".join(
        f"{name.replace('_', ' ')} are found as "
        + ", ".join(key for key, found in ALIASES.items() if found == (name,))
        for name in lacking
    )
    declared = " and ".join(f"--declare KEY={name}" for name in lacking)
    return (
        f"Say which key it is with {declared}, or join files of the same molecules as "
        f"a.npz+b.npz ({known})"
    )


def _check_known(columns: Mapping[str, Column], names: Names, layout: Layout, place: str) -> None:
    """Raises a SourceError for a known key that cannot be read."""
    for key in layout.ignored:
        known = {meaning.name for meaning in names.meanings(key)}
        shape = columns[key].shape
        text = columns[key].dtype.kind in "US" and math.prod(shape) == 1
        if not known or known <= {"n_atoms", "n_grid", "molecule_id"} or not shape or text:
            continue
        raise SourceError.of(
            f"{place}, {key}",
            wrong=(
                f"its shape {shape} is not that of {' or '.join(sorted(known))} of "
                f"{layout.n_molecules} molecules of up to {layout.max_atoms} atoms"
                + (f" and {layout.max_grid} grid points" if layout.max_grid else "")
            ),
            consequence="its values cannot be given to molecules, and nothing was stored",
            remedy=f"Correct its shape, or say that it is something else with "
            f"--declare {key}=unknown",
        )


def _layout(
    columns: Mapping[str, Column], names: Names, positions: str, n: int, widths: tuple[int, int]
) -> Layout:
    atoms, grid = widths
    fits: dict[str, tuple[Fit, ...]] = {}
    kept: dict[str, tuple[int, ...]] = {}
    ignored: dict[str, str] = {}
    single = n == 1 and columns[positions].shape == (atoms, 3)
    for key, column in columns.items():
        options = _fits(names.meanings(key), column, n, atoms, grid)
        if key.lower() in _UNITS and column.dtype.kind in "US":
            ignored[key] = METADATA
        elif options:
            fits[key] = options
        elif single and column.dtype.kind in "biuf" and not names.meanings(key):
            kept[key] = column.shape
        elif not column.shape or (column.dtype.kind in "US" and column.shape == (1,) != (n,)):
            ignored[key] = METADATA
        elif names.meanings(key) and {m.name for m in names.meanings(key)} <= COUNTS:
            ignored[key] = f"its shape {column.shape} does not belong to {n} molecules"
        elif column.shape[0] == n and not single:
            kept[key] = column.shape[1:]
        else:
            ignored[key] = f"its shape {column.shape} does not belong to {n} molecules"
    return Layout(n, atoms, grid, single, fits, kept, ignored)


def _fits(
    known: Sequence[Semantics], column: Column, n: int, atoms: int, grid: int
) -> tuple[Fit, ...]:
    """Readings of a key, one for each meaning, the cheapest first."""
    shape = column.shape
    found: dict[str, tuple[float, Fit]] = {}
    sizes = {"A": atoms, "G": grid}
    for meaning in known:
        if column.dtype.kind in "US" and meaning.name not in _TEXT:
            continue
        for symbols in meaning.shapes:
            target = tuple(sizes[s] if isinstance(s, str) else s for s in symbols)
            plain = tuple(s for s in symbols if s != 1)
            lengths = tuple(sizes[s] if isinstance(s, str) else s for s in plain)
            cost = reshape_cost(shape, (n, *target))
            shared = False
            if cost is None and meaning.name in _ONCE and shape == target:
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
    columns: Mapping[str, Column], names: Names, numbers: str, positions: str, n: int
) -> tuple[float, tuple[int, int] | None]:
    """Cost of reading the whole file as ``n`` molecules, with its A and G."""
    atoms, rest = divmod(math.prod(columns[positions].shape), 3 * n)
    if rest or not atoms:
        return math.inf, None
    grid = _grid_width(columns, names, n)
    total = 0.0
    for key, column in columns.items():
        known = names.meanings(key)
        if not known:
            continue
        options = [
            cost
            for meaning in known
            for symbols in meaning.shapes
            for cost in [_symbolic_cost(column.shape, symbols, n, atoms, grid)]
            if cost is not None
        ]
        once = {"atomic_numbers": ((atoms,), (atoms, 1)), "vdw_surface": ((grid, 3),)}
        if n > 1 and any(column.shape in once.get(meaning.name, ()) for meaning in known):
            options.append(_SHARED)
        if not options and key in (numbers, positions):
            return math.inf, None
        total += min(options, default=_NO_FIT)
    return total, (atoms, grid)


def _grid_width(columns: Mapping[str, Column], names: Names, n: int) -> int:
    """Points that a molecule has room for, if there are so many molecules; 0 without a grid."""
    surface, esp = (names.first(columns, name) for name in ("vdw_surface", "esp"))
    if surface is not None and math.prod(columns[surface].shape) % (3 * n) == 0:
        width = math.prod(columns[surface].shape) // (3 * n)
        if esp is None or math.prod(columns[esp].shape) == n * width:
            return width
    if esp is not None and math.prod(columns[esp].shape) % n == 0:
        return math.prod(columns[esp].shape) // n
    return 0


def _symbolic_cost(
    shape: tuple[int, ...], symbols: Shape, n: int, atoms: int, grid: int
) -> float | None:
    sizes = {"A": atoms, "G": grid}
    return reshape_cost(shape, (n, *(sizes[s] if isinstance(s, str) else s for s in symbols)))
