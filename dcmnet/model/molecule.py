"""A molecule to predict: checked before any network sees it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt
from ase.data import chemical_symbols, covalent_radii
from jaxtyping import Float, Int
from scipy.spatial import cKDTree

from pipeline.chemistry.radii import CLOSEST_ATOMS
from pipeline.inference.lengths import NOBLE_GASES, is_stretched
from store_schema.problems import Problem, SourceError

_CONSEQUENCE = "no charges can be predicted"


@dataclass(frozen=True)
class Structure:
    """One molecule: its atoms, its net charge, and an ESP where there is one.

    Attributes:
        place: Where it was found, for messages.
        name: Its identity.
        atomic_numbers: Atomic numbers.
        positions: Nuclear positions, angstrom.
        total_charge: Net charge, e.
        charge_given: Whether anyone said what the net charge is.
        esp: Reference ESP, hartree/e.
        grid: Points of that ESP, angstrom.
        periodic: Whether it was given as part of a crystal or a liquid.
        sites_left_out: Sites that it was given with and that are no atoms.
    """

    place: str
    name: str
    atomic_numbers: Int[np.ndarray, " a"]
    positions: Float[np.ndarray, "a 3"]
    total_charge: float = 0.0
    charge_given: bool = True
    esp: Float[np.ndarray, " g"] | None = None
    grid: Float[np.ndarray, "g 3"] | None = None
    periodic: bool = False
    sites_left_out: int = 0

    @classmethod
    def of_arrays(
        cls,
        atomic_numbers: npt.ArrayLike,
        positions: npt.ArrayLike,
        total_charge: float = 0.0,
        place: str = "predict",
    ) -> Self:
        """Makes one of arrays, or of lists.

        Args:
            atomic_numbers: Atomic numbers (a,).
            positions: Nuclear positions (a, 3), angstrom.
            total_charge: Net charge, e.
            place: How messages name it.

        Raises:
            SourceError: They are not whole numbers and one place in space for each.
        """
        try:
            numbers = np.asarray(atomic_numbers, np.float64)
            places = np.asarray(positions, np.float64)
            places = places.reshape(0, 3) if not places.size else places
            if numbers.ndim != 1 or places.shape != (len(numbers), 3):
                raise ValueError(f"shapes {numbers.shape} and {places.shape}")
            if not np.all(numbers == np.rint(numbers)):
                raise ValueError(f"atomic numbers {numbers.tolist()}"[:120])
        except (TypeError, ValueError) as error:  # numpy's for what is no array of numbers
            raise SourceError.of(
                f"{place}, atomic_numbers and positions",
                wrong=f"these are not whole numbers (a,) and positions (a, 3): {error}",
                consequence=_CONSEQUENCE,
                remedy="Give each atom its atomic number and its place in angstrom",
            ) from error
        return cls(place, "molecule", numbers.astype(np.int64), places, float(total_charge))

    @property
    def n_atoms(self) -> int:
        """Number of atoms."""
        return len(self.atomic_numbers)

    @property
    def centred(self) -> Float[np.ndarray, "a 3"]:
        """Positions about their mean, where single precision is finest; angstrom."""
        return self.positions - self.positions.mean(axis=0)


def problems_of(structure: Structure, largest: int) -> list[Problem]:
    """Lists what keeps a molecule from being predicted.

    Args:
        structure: The molecule.
        largest: Largest atomic number that the network can embed.
    """
    numbers, positions = structure.atomic_numbers, structure.positions
    strange = sorted({int(n) for n in numbers[(numbers < 1) | (numbers > largest)]})
    if not len(numbers):
        found = ["it has no atom"]
    else:
        found = []
        if strange:
            numbered = ", ".join(map(str, strange[:5])) + (" (a site X)" if 0 in strange else "")
            found.append(f"atomic numbers are {numbered}, not whole numbers from 1 to {largest}")
        if not np.isfinite(structure.total_charge):
            found.append(f"its net charge is {structure.total_charge}")
        with np.errstate(over="ignore", invalid="ignore"):
            # One that is not finite takes the centre, and with it all others.
            centred = structure.centred if np.isfinite(positions).all() else positions
            placed = np.isfinite(centred.astype(np.float32)).all(axis=1)
        if not placed.all():
            lost = ", ".join(str(atom) for atom in np.flatnonzero(~placed)[:5])
            found.append(f"positions are not finite for atom {lost}")
        elif not strange:
            found += _misplaced(numbers, positions)
            if structure.total_charge > numbers.sum():
                bare = f"more than the {numbers.sum():+d} e of its bare nuclei"
                found.append(f"its net charge is {structure.total_charge:+g} e, {bare}")
    return [
        Problem(
            place=structure.place,
            wrong=wrong,
            consequence=_CONSEQUENCE,
            remedy="Correct or remove this molecule",
        )
        for wrong in found
    ]


def _misplaced(numbers: Int[np.ndarray, " a"], positions: Float[np.ndarray, "a 3"]) -> list[str]:
    """Returns what to say where two atoms are at one place, or all are in another unit."""
    if len(numbers) < 2:
        return []
    distance, neighbour = cKDTree(positions).query(positions, k=2)
    # Of atoms at the same place the first neighbour may be either one.
    other = np.where(neighbour[:, 1] == np.arange(len(numbers)), neighbour[:, 0], neighbour[:, 1])
    closest = distance[:, 1] / (covalent_radii[numbers] + covalent_radii[numbers[other]])
    atom = int(closest.argmin())
    # Noble gases have no bonds to measure.
    bonded = len(numbers) > 2 and not np.isin(numbers, NOBLE_GASES).any()
    if bonded and is_stretched(*_extent(closest)).all():
        longer = f"all bonds are at least {closest[atom]:.2f} times too long"
        return [f"{longer}: positions must be in angstrom, and may be in bohr"]
    if closest[atom] >= CLOSEST_ATOMS:
        return []
    pair = " and ".join(
        f"{chemical_symbols[int(numbers[i])]} (atom {i})" for i in sorted((atom, int(other[atom])))
    )
    return [f"{pair} are {distance[atom, 1]:.3f} Å apart"]


def _extent(values: Float[np.ndarray, " a"]) -> tuple[np.ndarray, np.ndarray]:
    """Least and largest value."""
    return values.min(keepdims=True), values.max(keepdims=True)


def symbols_of(numbers: Iterable[int]) -> str:
    """Returns the symbols of elements, ascending, for messages."""
    return ", ".join(chemical_symbols[number] for number in sorted(set(numbers)))
