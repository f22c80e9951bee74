"""Mixed resolution: charges of one molecule from several models, by element or by atom."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import numpy as np
from ase.data import atomic_numbers as numbers_of_symbols
from jaxtyping import Int

from dcmnet.model.molecule import Structure
from dcmnet.prediction.charges import ChargedMolecule
from store_schema.problems import ConfigError, SourceError

ModelT = TypeVar("ModelT")


@dataclass(frozen=True)
class Mixture(Generic[ModelT]):
    """Which model gives which atom its charges.

    Attributes:
        models: The models; the first is that of all atoms that nothing else is said of.
        by_element: Model of each atomic number, as an index.
        by_atom: Model of each atom, from 0, as an index; stronger than its element's.
    """

    models: tuple[ModelT, ...]
    by_element: Mapping[int, int] = field(default_factory=dict)
    by_atom: Mapping[int, int] = field(default_factory=dict)

    def choose(self, structure: Structure) -> Int[np.ndarray, " a"]:
        """Returns the index of the model of each atom.

        Raises:
            SourceError: The molecule lacks an atom that a model was named for.
        """
        missing = [atom for atom in self.by_atom if atom >= structure.n_atoms]
        if missing:
            raise SourceError.of(
                structure.place,
                wrong=f"it has no atom {max(missing)}, which a model was named for, but "
                f"{structure.n_atoms} atoms, the first of which is 0",
                consequence="nothing was predicted",
                remedy="Name models by element, or predict this molecule by itself",
            )
        chosen = [self.by_element.get(int(number), 0) for number in structure.atomic_numbers]
        for atom, model in self.by_atom.items():
            chosen[atom] = model
        return np.array(chosen, np.int64)


def parse_mixture(texts: Sequence[str]) -> tuple[list[str], dict[int, int], dict[int, int]]:
    """Reads ``H=experiments/n1`` (an element) and ``0,4=experiments/n1`` (atoms, from 0).

    Returns:
        The sources of further models, and which of them each element and each atom has,
        counted from 1; 0 is the model that they are added to.

    Raises:
        ConfigError: A text is neither, or two say different things.
    """
    sources: list[str] = []
    by_element: dict[int, int] = {}
    by_atom: dict[int, int] = {}
    for text in texts:
        names, _, source = text.partition("=")
        if source and source not in sources:
            sources.append(source)
        for name in names.split(","):
            target, key = _key(name.strip(), by_element, by_atom)
            if not source or target is None or key in target:
                raise ConfigError.of(
                    f"--with {text}",
                    wrong=(
                        "a second model is named for it"
                        if target and key in target
                        else f"{name!r} is not an element or atoms"
                    )
                    + "; models are named by ELEMENT=EXPERIMENT or ATOM,ATOM=EXPERIMENT",
                    consequence="nothing was predicted",
                    remedy="Write it like --with H=experiments/n1, atoms counted from 0",
                )
            target[key] = sources.index(source) + 1
    return sources, by_element, by_atom


def _key(
    name: str, by_element: dict[int, int], by_atom: dict[int, int]
) -> tuple[dict[int, int] | None, int]:
    if name.isdecimal():
        return by_atom, int(name)
    number = numbers_of_symbols.get(name.capitalize(), 0)
    return (by_element, number) if number else (None, 0)


def combine(
    predictions: Sequence[ChargedMolecule], chosen: Int[np.ndarray, " a"]
) -> ChargedMolecule:
    """Takes each atom's charges from one of several predictions of the same molecule.

    What the parts lack of the net charge is shared by all charges equally, the smallest
    change in the least-squares sense that makes the sum exact.

    Args:
        predictions: One of each model.
        chosen: Index of the prediction that each atom's charges come from.
    """
    parts = [(p, chosen[p.atom] == index) for index, p in enumerate(predictions)]
    atom = np.concatenate([p.atom[taken] for p, taken in parts])
    order = np.argsort(atom, kind="stable")
    charges = np.concatenate([p.charges[taken] for p, taken in parts])[order]
    positions = np.concatenate([p.charge_positions[taken] for p, taken in parts])[order]
    mixed = ChargedMolecule(predictions[0].structure, charges, positions, atom[order])
    return mixed.with_charges(charges)
