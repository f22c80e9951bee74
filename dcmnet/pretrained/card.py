"""The card of a model: what it learned from, how good it is, and what it is not for."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Annotated, Final

from ase.data import atomic_numbers
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from dcmnet.config import ModelConfig
from dcmnet.model.calibration import Calibration
from dcmnet.model.domain import Domain

# What tables put before an element, a net charge, or a number of heavy atoms.
_KINDS: Final = {"element": "", "charge": "net charge ", "size": "heavy atoms: "}


def _symbol(text: str) -> str:
    if text not in atomic_numbers:
        raise ValueError("not the symbol of an element")
    return text


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class TrainingData(_Part):
    """Molecules that it learned from.

    Attributes:
        level_of_theory: Of their ESPs.
        what: What they are.
        n_molecules: How many geometries.
        n_ions: Of these, how many have a net charge.
        by_element: How many have an element, by its symbol.
        by_charge: How many have a net charge, such as ``+1``.
        by_size: How many have a number of heavy atoms, such as ``4 to 6``.
    """

    level_of_theory: str
    what: str
    n_molecules: int
    n_ions: int
    by_element: dict[str, int]
    by_charge: dict[str, int]
    by_size: dict[str, int]


class Accuracy(_Part):
    """Errors of held-out molecules: RMSE of each molecule's ESP, kcal/mol/e.

    Attributes:
        molecules: Which ones.
        level_of_theory: Of their ESPs.
        n_molecules: How many geometries.
        esp: Root mean square of the ESP itself, the error of a model of no charges.
        mean: Mean over molecules.
        median: Median over molecules.
        percentile_95: 95 % of the molecules are below.
        monopoles: Mean of the MBIS monopoles of those that have some; None where none has.
        fitted_charges: Mean of atomic charges fitted to each molecule's own ESP.
        fitted_dipoles: Mean of charges and dipoles on the atoms, fitted likewise.
        fitted_quadrupoles: Mean of these and quadrupoles.
    """

    molecules: str
    level_of_theory: str
    n_molecules: int
    esp: float
    mean: float
    median: float
    percentile_95: float
    monopoles: float | None
    fitted_charges: float
    fitted_dipoles: float
    fitted_quadrupoles: float


class ModelCard(_Part):
    """A model in the box.

    Attributes:
        name: As ``load_model`` takes it.
        model: The network.
        n_members: Networks of its ensemble; the first one predicts.
        sha256: Of the file of weights.
        elements: Symbols of the elements of its training data.
        total_charges: Their net charges, e.
        most_atoms: Atoms of the largest molecule.
        radicals: Whether some of them have an odd number of electrons.
        training: What it learned from, in the order of the stages.
        accuracy: How good it is.
        calibration: Of its uncertainty.
        limits: What it must not be used for, a sentence each.
        recipe: How to make it again.
        versions: Packages that it was made with.
    """

    name: str
    model: ModelConfig
    n_members: int = Field(ge=1)
    sha256: str
    elements: tuple[Annotated[str, AfterValidator(_symbol)], ...]
    total_charges: tuple[int, ...]
    most_atoms: int
    radicals: bool
    training: tuple[TrainingData, ...]
    accuracy: tuple[Accuracy, ...]
    calibration: Calibration
    limits: tuple[str, ...]
    recipe: str
    versions: dict[str, str]

    @property
    def domain(self) -> Domain:
        """What it has seen in training."""
        return Domain(
            frozenset(atomic_numbers[symbol] for symbol in self.elements),
            frozenset(map(float, self.total_charges)),
            self.most_atoms,
            self.radicals,
        )

    def composition(self) -> Iterator[tuple[str, list[int]]]:
        """Yields a kind of molecules, and how many geometries of each part of the training are."""
        for kind, what in _KINDS.items():
            counts = [getattr(part, f"by_{kind}") for part in self.training]
            for one in dict.fromkeys(itertools.chain(*counts)):
                yield what + one, [count.get(one, 0) for count in counts]
