"""An ESP for molecules that bring none: that of the multipoles on their atoms."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import numpy as np
from jaxtyping import Float

from pipeline.chemistry.arrays import Atoms, Grid, usable_points
from pipeline.chemistry.multipoles import multipole_potential
from pipeline.chemistry.shells import shell_points
from store_schema.names import ATOMIC_MOMENTS, MOLECULE, Variable
from store_schema.units import BOHR_IN_ANGSTROM, HARTREE_IN_KCAL_PER_MOL

ESP_ORIGIN: Final = Variable(
    "esp_origin",
    (MOLECULE,),
    "str",
    "none",
    "what the ESP was evaluated from; empty where it is that of the source",
)
_NAMES: Final = ("charges", "dipoles", "quadrupoles", "octupoles")


@dataclass
class DerivedTally:
    """How many ESPs were evaluated, and how far such ones are from those that molecules have.

    Attributes:
        origins: Molecules by what their ESP was evaluated from.
        errors: RMSE between the two of each molecule that has both, kcal/mol/e.
    """

    origins: Counter[str] = field(default_factory=Counter)
    errors: list[float] = field(default_factory=list)

    def add(self, other: DerivedTally) -> None:
        """Counts those of another block as well."""
        self.origins.update(other.origins)
        self.errors += other.errors

    @property
    def apart(self) -> str:
        """Says how far the two are apart; empty where no molecule has both."""
        if not self.errors:
            return ""
        mean = sum(self.errors) / len(self.errors)
        return (
            f"the ESP of atomic multipoles is {mean:.2f} kcal/mol/e (mean RMSE) from that of the "
            f"source, over {len(self.errors)} molecules that have both"
        )


class Derived(NamedTuple):
    """What was evaluated in a block.

    Attributes:
        grid: The grid with the points and ESPs of molecules that had none.
        origin: What each molecule's ESP was evaluated from; empty where it has its own.
        tally: How many molecules that is, and how good.
    """

    grid: Grid
    origin: list[str]
    tally: DerivedTally


def origin_of(order: int) -> str:
    """Returns the name of an ESP of multipoles up to an order, 0 for charges."""
    return f"atomic multipoles up to {_NAMES[order]} (order {order})"


def derived_esp(
    values: Mapping[str, np.ndarray], atoms: Atoms, grid: Grid, n_points: int
) -> Derived:
    """Evaluates the ESP of atomic multipoles, and compares it where there is one.

    Points are spread over shells around the van der Waals surface, the same for the same
    molecule. Each molecule has the highest order that all its atoms have.

    Args:
        values: Multipoles of the atoms, in canonical units.
        atoms: Atoms, in Å.
        grid: Grid in Å, ESP in hartree/e.
        n_points: Points of each ESP that is evaluated.
    """
    moments = [values[name] for name in ATOMIC_MOMENTS if name in values]
    has_esp: np.ndarray = np.any(usable_points(grid.points, grid.esp), axis=1)
    found: dict[int, tuple[np.ndarray, np.ndarray]] = {}
    origin, tally = [""] * len(has_esp), DerivedTally()
    for row in range(len(has_esp)):
        real = atoms.mask[row]
        known = _known([each[row][real] for each in moments])
        placed = atoms.positions[row][real]
        if not known or not real.any() or not np.isfinite(placed).all():
            continue
        if has_esp[row]:
            points = grid.points[row, : grid.n_grid[row]]
            apart = _potential(points, placed, known) - grid.esp[row, : grid.n_grid[row]]
            tally.errors.append(HARTREE_IN_KCAL_PER_MOL * float(np.sqrt(np.nanmean(apart**2))))
            continue
        numbers = atoms.numbers[row][real]
        points = shell_points(numbers, placed, n_points, _rng(numbers, placed))
        found[row] = points, _potential(points, placed, known)
        origin[row] = origin_of(len(known) - 1)
        tally.origins[origin[row]] += 1
    return Derived(_with(grid, found, n_points), origin, tally)


def _known(moments: list[np.ndarray]) -> list[np.ndarray]:
    """Moments up to the first order that is missing."""
    known = []
    for order, each in enumerate(moments):
        if not np.isfinite(each).all() or each.ndim != order + 1:
            break
        known.append(each.astype(np.float64))
    return known


def _potential(
    points: Float[np.ndarray, "point 3"],
    positions: Float[np.ndarray, "atom 3"],
    moments: list[np.ndarray],
) -> Float[np.ndarray, " point"]:
    return multipole_potential(
        points.astype(np.float64) / BOHR_IN_ANGSTROM,
        positions / BOHR_IN_ANGSTROM,
        *(each / BOHR_IN_ANGSTROM**order for order, each in enumerate(moments)),
    )


def _rng(numbers: np.ndarray, positions: np.ndarray) -> np.random.Generator:
    """Draws the same points for the same molecule, wherever it stands in a file."""
    digest = hashlib.sha256(numbers.tobytes() + positions.astype(np.float32).tobytes()).digest()
    return np.random.default_rng(int.from_bytes(digest[:8], "little"))


def _with(grid: Grid, found: dict[int, tuple[np.ndarray, np.ndarray]], n_points: int) -> Grid:
    """The grid with more molecules' points in it."""
    if not found:
        return grid
    n, width = len(grid.n_grid), max(grid.points.shape[1], n_points)
    points = np.full((n, width, 3), np.nan, np.promote_types(grid.points.dtype, np.float32))
    esp = np.full((n, width), np.nan, np.promote_types(grid.esp.dtype, np.float32))
    points[:, : grid.points.shape[1]], esp[:, : grid.esp.shape[1]] = grid.points, grid.esp
    rows = [*found]
    points[rows], esp[rows] = np.nan, np.nan
    for row, (places, potential) in found.items():
        points[row, :n_points], esp[row, :n_points] = places, potential
    is_new = np.isin(np.arange(n), rows)
    return grid._replace(
        points=points,
        esp=esp,
        n_grid=np.where(is_new, n_points, grid.n_grid),
        given=None if grid.given is None else np.where(is_new, n_points, grid.given),
        unpadded=np.where(is_new, n_points, grid.unpadded),
        width=max(grid.width, n_points),
    )
