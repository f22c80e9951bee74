"""A survey of molecules before they are predicted: their sizes, and what models have not seen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from jaxtyping import Int

from dcmnet.model.domain import MEANINGLESS, Domain
from dcmnet.model.molecule import Structure, problems_of, symbols_of
from dcmnet.model.trained import TrainedModel
from dcmnet.prediction.mixture import Mixture
from pipeline.loader.pairs import count_pairs
from pipeline.loader.shapes import MoleculeSizes
from store_schema.problems import Problem, SourceError

CHARGE_ASSUMED: Final = (
    "0 was assumed. Give it in the file (charge=-1 in an XYZ comment line), or with --charge"
)
# Problems that are listed; a file of another kind would fill the screen.
_MOST_PROBLEMS: Final = 20
# Molecules that a warning names.
_LISTED: Final = 3


@dataclass(frozen=True)
class Survey:
    """Molecules looked at once, before anything is predicted.

    Attributes:
        names: Identity of each.
        n_atoms: Atoms of each.
        n_pairs: Pairs within the cutoff of each, by cutoff.
        largest_n_dcm: Most charges that an atom will have.
        warnings: What the user should know, a sentence each.
    """

    names: tuple[str, ...]
    n_atoms: Int[np.ndarray, " n"]
    n_pairs: dict[float, Int[np.ndarray, " n"]]
    largest_n_dcm: int
    warnings: tuple[str, ...]

    def sizes(self, cutoff: float) -> MoleculeSizes:
        """Returns the sizes that batches are planned by."""
        rows = np.arange(len(self.n_atoms))
        return MoleculeSizes(rows, self.n_atoms, np.zeros_like(rows), self.n_pairs[cutoff])


class Surveyor:
    """Looks at molecules, some at a time, before any is predicted."""

    def __init__(self, mixture: Mixture[TrainedModel]) -> None:
        """Begins with none; ``mixture`` is what they will be predicted with."""
        self._mixture = mixture
        self._names: list[str] = []
        self._n_atoms: list[int] = []
        self._n_pairs: dict[float, list[int]] = {m.config.cutoff: [] for m in mixture.models}
        self._problems: list[Problem] = []
        self._domains = [Domain() for _ in mixture.models]
        self._strange: list[list[str]] = [[] for _ in mixture.models]
        self._uncharged = 0
        self._periodic = 0
        self._with_sites = 0
        self._elements: set[int] = set()

    def look(self, window: Sequence[Structure]) -> None:
        """Checks and measures some molecules.

        Raises:
            SourceError: So many cannot be predicted that the others are not looked at.
        """
        for structure in window:
            self._names.append(structure.name)
            self._n_atoms.append(structure.n_atoms)
            self._uncharged += not structure.charge_given
            self._periodic += structure.periodic
            self._with_sites += structure.sites_left_out > 0
            choice = self._mixture.choose(structure)
            self._elements |= set(structure.atomic_numbers.tolist())
            used = [model.config.max_atomic_number for model in self._mixture.models]
            problems = problems_of(structure, min(used))
            self._problems += problems
            domain = Domain.of(structure)
            for index, model in enumerate(self._mixture.models):
                # A network sees every atom of a molecule that it gives charges to.
                if index == 0 or index in choice:
                    self._domains[index] |= domain
                    if any(domain.beyond(model.domain)):
                        self._strange[index].append(structure.name)
            if not problems:
                centred = structure.centred.astype(np.float32)[None]
                mask = np.ones((1, structure.n_atoms), bool)
                for cutoff, counts in self._n_pairs.items():
                    counts.append(int(count_pairs(centred, mask, cutoff)[0]))
            if len(self._problems) >= _MOST_PROBLEMS:
                raise SourceError(self._problems)

    def finish(self, place: str, strict: bool) -> Survey:
        """Returns what was seen.

        Args:
            place: How messages name where the molecules are.
            strict: Refuse what models have not been trained on.

        Raises:
            SourceError: There are no molecules, or some cannot be predicted.
        """
        if not self._names:
            raise SourceError.of(
                place,
                wrong="there are no molecules in it",
                consequence="there is nothing to predict",
                remedy="Give a file that holds molecules",
            )
        if self._problems:
            raise SourceError(self._problems)
        unseen = self._unseen(place)
        if strict and unseen:
            raise SourceError(unseen)
        notices = [f"{p.place}: {p.wrong}; {p.consequence}" for p in unseen]
        if absent := set(self._mixture.by_element) - self._elements:
            notices.append(
                f"{place}: no molecule has {symbols_of(absent)}, which a model was named for"
            )
        if self._uncharged:
            notices.append(
                f"{place}: {self._uncharged} of {len(self._names)} molecules give no net charge; "
                + CHARGE_ASSUMED
            )
        if self._periodic:
            notices.append(
                f"{place}: {self._periodic} of {len(self._names)} molecules are periodic; each is "
                "predicted by itself, and must not be cut by the edge of its cell"
            )
        if self._with_sites:
            notices.append(
                f"{place}: {self._with_sites} of {len(self._names)} molecules have sites that are "
                "no atoms, such as X; these were left out"
            )
        return Survey(
            names=tuple(self._names),
            n_atoms=np.array(self._n_atoms, np.int64),
            n_pairs={cutoff: np.array(n, np.int64) for cutoff, n in self._n_pairs.items()},
            largest_n_dcm=max(model.config.n_dcm for model in self._mixture.models),
            warnings=tuple(notices),
        )

    def _unseen(self, place: str) -> list[Problem]:
        """Lists what models have not been trained on, as far as that is known."""
        problems = []
        for model, domain, strange in zip(
            self._mixture.models, self._domains, self._strange, strict=True
        ):
            which = _listed(strange) if len(self._names) > 1 else ""
            beyond = [
                (f"{model.name} has not seen {new} in training, only {seen}{which}", consequence)
                for new, seen, consequence in domain.beyond(model.domain)
            ]
            if domain.elements and model.elements is None:
                unknown = f"it is not on record which elements {model.name} was trained on"
                beyond.append((unknown, MEANINGLESS))
            problems += [
                Problem(
                    place=place,
                    wrong=wrong,
                    consequence=consequence,
                    remedy="Train on molecules like these, or accept them (strict=False; no "
                    "--strict)",
                )
                for wrong, consequence in beyond
            ]
        return problems


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return f" (molecules beyond that: {', '.join(names[:_LISTED])}{more})"
