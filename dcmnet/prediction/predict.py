"""Predicts molecules with one model or several: checked, batched by size, exact in sum."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import jax
import numpy as np
import numpy.typing as npt
from jaxtyping import Int

from dcmnet.model.domain import MEANINGLESS, Domain
from dcmnet.model.molecule import Structure, problems_of, symbols_of
from dcmnet.model.program import charges_program
from dcmnet.model.trained import TrainedModel
from dcmnet.prediction.charges import ChargedMolecule
from dcmnet.prediction.inputs import InMemory, Structures
from dcmnet.prediction.mixture import Mixture, combine
from dcmnet.prediction.uncertainty import esp_spread
from pipeline.loader import BatchShape, make_batch
from pipeline.loader.pairs import count_pairs
from pipeline.loader.shapes import (
    MAX_SHAPES,
    MoleculeSizes,
    choose_shapes,
    equal_batches,
    smallest_fitting,
)
from store_schema.problems import Problem, SourceError

CHARGE_ASSUMED: Final = (
    "0 was assumed. Give it in the file (charge=-1 in an XYZ comment line), or with --charge"
)
# Molecules of a batch, and pairs that their messages may take memory for.
BATCH_SIZE: Final = 64
_BATCH_PAIRS: Final = 2**17
# So many are predicted while one more program is traced and compiled.
_FEW_BATCHES: Final = 4
# Networks that differ less, in kcal/mol/e, had no choice.
_LEAST_SPREAD: Final = 1e-4
# Problems that are listed; a file of another kind would fill the screen.
_MOST_PROBLEMS: Final = 20
# Molecules that a warning names.
_LISTED: Final = 3

OnAdvance = Callable[[int], object]


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


class Predictor:
    """Runs models over molecules.

    Attributes:
        mixture: The models, and which one gives which atom its charges.
    """

    def __init__(self, model: TrainedModel | Mixture[TrainedModel], *, strict: bool = False):
        """Prepares.

        Args:
            model: A model, or several.
            strict: Refuse molecules beyond the training, and those whose error to expect is
                beyond what tests back, instead of warning of them.
        """
        self.mixture = model if isinstance(model, Mixture) else Mixture((model,))
        self._strict = strict
        # One program for all members: to compile one for all at once takes longer
        # than to run it on a hundred molecules.
        self._compiled = [charges_program(each.config, each.params) for each in self.mixture.models]
        self._members = [
            jax.device_put([each.params, *each.ensemble]) for each in self.mixture.models
        ]

    def predict(self, structures: Iterable[Structure]) -> list[ChargedMolecule]:
        """Predicts molecules at hand, in their order; warns of those beyond the training.

        Raises:
            SourceError: Some of them cannot be predicted.
        """
        given = InMemory(tuple(structures))
        survey = self.survey(given)
        for warning in survey.warnings:
            warnings.warn(warning, stacklevel=2)
        return list(self.run(given, survey))

    def survey(self, structures: Structures, on_advance: OnAdvance | None = None) -> Survey:
        """Reads all molecules once and checks them.

        Args:
            structures: The molecules.
            on_advance: Told how many molecules have been read.

        Raises:
            SourceError: Some of them cannot be predicted; the first ones are listed.
        """
        looking = _Looking(self.mixture)
        for window in structures.windows():
            looking.look(window)
            if on_advance is not None:
                on_advance(len(window))
        return looking.finish(structures.place, self._strict)

    def run(self, structures: Structures, survey: Survey) -> Iterator[ChargedMolecule]:
        """Predicts what was surveyed, in its order, with few compilations.

        Args:
            structures: The molecules.
            survey: What ``survey`` returned of them.

        Raises:
            SourceError: They are no longer the ones that were surveyed; or, if strict, an error to
                expect is beyond what tests back.
        """
        start = 0
        plans = [_Plan.of(survey.sizes(each.config.cutoff)) for each in self.mixture.models]
        for window in structures.windows():
            rows = np.arange(start, start + len(window))
            n_atoms = survey.n_atoms[start : start + len(window)]
            if not np.array_equal([s.n_atoms for s in window], n_atoms):
                raise _changed(structures.place)
            yield from self._window(window, rows, plans)
            start += len(window)
        if start != len(survey.n_atoms):
            raise _changed(structures.place)

    def _window(
        self, window: Sequence[Structure], rows: Int[np.ndarray, " n"], plans: Sequence[_Plan]
    ) -> Iterator[ChargedMolecule]:
        chosen = [self.mixture.choose(structure) for structure in window]
        found: list[dict[int, ChargedMolecule]] = [{} for _ in window]
        for index, plan in enumerate(plans):
            wanted = np.array([index == 0 or index in c for c in chosen])
            for members, shape in plan.batches(rows[wanted]):
                places = members - rows[0]
                batch = [window[place] for place in places]
                for place, molecule in zip(places, self._batch(index, batch, shape), strict=True):
                    found[place][index] = molecule
        for predictions, choice in zip(found, chosen, strict=True):
            if not choice.any():
                yield predictions[0]
            else:
                everything = [predictions.get(i, predictions[0]) for i in range(len(plans))]
                yield combine(everything, choice)

    def _batch(
        self, index: int, structures: Sequence[Structure], shape: BatchShape
    ) -> Iterator[ChargedMolecule]:
        """Runs one model over one batch, centred where single precision is finest.

        An ensemble says how far its members are apart; the first one's charges are taken.
        """
        model = self.mixture.models[index]
        batch = make_batch([_fields(s) for s in structures], shape, cutoff=model.config.cutoff)
        on_device = jax.device_put(batch)
        found = jax.device_get(
            [self._compiled[index](params, on_device) for params in self._members[index]]
        )
        displaced = [(q, positions - batch.positions[:, :, None]) for q, positions in found]
        for row, structure in enumerate(structures):
            atoms = slice(structure.n_atoms)
            members = [
                ChargedMolecule.of_atoms(structure, q[row, atoms], d[row, atoms])
                for q, d in displaced
            ]
            if len(members) == 1:
                yield members[0]
            else:
                spread = esp_spread(members)
                # Of a lone ion all members say the same, which is no sign that it is right.
                sure = spread * model.calibration_factor if spread > _LEAST_SPREAD else None
                self._check_doubt(structure, model, sure)
                yield replace(members[0], uncertainty=sure)

    def _check_doubt(self, structure: Structure, model: TrainedModel, error: float | None) -> None:
        limit = model.uncertainty_limit
        if self._strict and error is not None and limit is not None and error > limit:
            raise SourceError.of(
                structure.place,
                wrong=f"the error of its ESP to expect is {error:.2f} kcal/mol/e; tests back "
                f"estimates of at most {limit:.2f}",
                consequence="nothing was predicted",
                remedy="Look at its geometry, compute a reference, or accept such molecules "
                "(strict=False; no --strict)",
            )


def predict_arrays(
    model: TrainedModel | Mixture[TrainedModel],
    atomic_numbers: npt.ArrayLike,
    positions: npt.ArrayLike,
    total_charge: float = 0.0,
    *,
    strict: bool = False,
) -> ChargedMolecule:
    """Predicts one molecule given as arrays, in double precision.

    Args:
        model: A model, or several.
        atomic_numbers: Atomic numbers (a,).
        positions: Nuclear positions (a, 3), angstrom.
        total_charge: Net charge, e; the charges sum to it within 1e-12.
        strict: Refuse it where it is beyond the training, or its error to expect beyond what
            tests back.

    Raises:
        SourceError: It cannot be predicted.
    """
    structure = Structure.of_arrays(atomic_numbers, positions, total_charge)
    return Predictor(model, strict=strict).predict([structure])[0]


@dataclass(frozen=True)
class _Plan:
    """Padded sizes of the batches of one model."""

    sizes: MoleculeSizes
    shapes: tuple[BatchShape, ...]

    @classmethod
    def of(cls, sizes: MoleculeSizes) -> _Plan:
        most_pairs = max(1, int(sizes.n_pairs.max(initial=1)))
        batch_size = max(1, min(BATCH_SIZE, len(sizes.rows), _BATCH_PAIRS // most_pairs))
        equal = equal_batches(len(sizes.rows), batch_size)
        most_shapes = 1 if len(sizes.rows) <= _FEW_BATCHES * equal else MAX_SHAPES
        return cls(sizes, choose_shapes(sizes, equal, most_shapes))

    def batches(
        self, rows: Int[np.ndarray, " n"]
    ) -> Iterator[tuple[Int[np.ndarray, " b"], BatchShape]]:
        """Yields rows of like size and the shape that holds them."""
        if not len(rows):
            return
        atoms, pairs = self.sizes.n_atoms, self.sizes.n_pairs
        order = rows[np.lexsort((pairs[rows], atoms[rows]))]
        width = self.shapes[0].molecules
        for start in range(0, len(order), width):
            members = order[start : start + width]
            (fitting,) = smallest_fitting(
                self.shapes,
                atoms[members].max(keepdims=True),
                np.zeros(1, np.int64),
                pairs[members].sum(keepdims=True),
            )
            yield members, self.shapes[fitting]


class _Looking:
    """What a survey collects."""

    def __init__(self, mixture: Mixture[TrainedModel]) -> None:
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
        """Checks and measures some molecules."""
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
        """Refuses, or says what was seen."""
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


def _fields(structure: Structure) -> dict[str, Any]:
    return {
        "atomic_numbers": structure.atomic_numbers,
        "positions": structure.centred,
        "total_charge": structure.total_charge,
    }


def _changed(place: str) -> SourceError:
    return SourceError.of(
        place,
        wrong="its molecules have changed since they were first read",
        consequence="nothing was written",
        remedy="Predict again when the file is no longer written to",
    )
