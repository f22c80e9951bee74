"""Kinds of molecules: elements, net charges and sizes, as seen in training or to be predicted."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
from jaxtyping import Float

from dcmnet.model.molecule import Structure, symbols_of

MEANINGLESS: Final = "charges of elements that it has not seen mean nothing"


class Beyond(NamedTuple):
    """Something that a model was not trained on.

    Attributes:
        new: What it was not trained on.
        seen: What it was trained on.
        consequence: What that means for its charges.
    """

    new: str
    seen: str
    consequence: str


@dataclass(frozen=True)
class Domain:
    """What molecules are like; None of what nobody knows.

    Attributes:
        elements: Atomic numbers.
        total_charges: Net charges of molecules, e.
        most_atoms: Atoms of the largest molecule.
        radicals: Whether some have an odd number of electrons.
    """

    elements: frozenset[int] | None = None
    total_charges: frozenset[float] | None = None
    most_atoms: int | None = None
    radicals: bool | None = None

    @classmethod
    def of(cls, structure: Structure) -> Domain:
        """Returns that of one molecule."""
        elements = frozenset(structure.atomic_numbers.tolist())
        electrons = structure.atomic_numbers.sum() - structure.total_charge
        return cls(
            elements,
            frozenset([structure.total_charge]),
            structure.n_atoms,
            bool(electrons % 2 == 1),
        )

    def __or__(self, other: Domain) -> Domain:
        """Returns that of the molecules of both."""
        return Domain(
            (self.elements or frozenset()) | (other.elements or frozenset()),
            (self.total_charges or frozenset()) | (other.total_charges or frozenset()),
            max(self.most_atoms or 0, other.most_atoms or 0),
            bool(self.radicals or other.radicals),
        )

    def beyond(self, trained: Domain) -> Iterator[Beyond]:
        """Yields what of these molecules was not in training.

        Args:
            trained: What was.
        """
        new = (self.elements or frozenset()) - (trained.elements or frozenset())
        if trained.elements is not None and new:
            yield Beyond(
                symbols_of(new),
                symbols_of(trained.elements),
                MEANINGLESS,
            )
        strange = (self.total_charges or frozenset()) - (trained.total_charges or frozenset())
        if trained.total_charges is not None and strange:
            yield Beyond(
                f"net charges {_signed(strange)}",
                f"net charges {_signed(trained.total_charges)}",
                "it has not learned where such a charge goes",
            )
        if trained.radicals is False and self.radicals:
            yield Beyond(
                "odd numbers of electrons",
                "even ones",
                "such a molecule is a radical, or its net charge is another",
            )
        most = self.most_atoms or 0
        if trained.most_atoms is not None and most > trained.most_atoms:
            yield Beyond(
                f"molecules of up to {most} atoms",
                f"at most {trained.most_atoms} atoms",
                "its errors for molecules that large are not known",
            )


def elements_of_bias(bias: Float[np.ndarray, " element"]) -> frozenset[int] | None:
    """Returns the atomic numbers that a published model was trained on, None where it is untold.

    The charge bias of an element starts at zero, and only data with that element move it.

    Args:
        bias: Of each atomic number, e.
    """
    moved = frozenset(np.flatnonzero(bias).tolist()) - {0}
    return moved or None


def _signed(charges: frozenset[float]) -> str:
    return ", ".join(f"{charge:+g}" if charge else "0" for charge in sorted(charges))
