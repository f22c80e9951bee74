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

from dcmnet.model.molecule import Structure
from dcmnet.model.program import charges_program
from dcmnet.model.trained import TrainedModel
from dcmnet.prediction.charges import ChargedMolecule
from dcmnet.prediction.inputs import InMemory, Structures
from dcmnet.prediction.mixture import Mixture, combine
from dcmnet.prediction.survey import Survey, Surveyor
from dcmnet.prediction.uncertainty import esp_spread
from pipeline.loader import BatchShape, make_batch
from pipeline.loader.shapes import (
    MAX_SHAPES,
    MoleculeSizes,
    choose_shapes,
    equal_batches,
    smallest_fitting,
)
from store_schema.problems import SourceError

# Molecules of a batch, and pairs that their messages may take memory for.
BATCH_SIZE: Final = 64
_BATCH_PAIRS: Final = 2**17
# So many are predicted while one more program is traced and compiled.
_FEW_BATCHES: Final = 4
# Networks that differ less, in kcal/mol/e, had no choice.
_LEAST_SPREAD: Final = 1e-4

OnAdvance = Callable[[int], object]


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
        looking = Surveyor(self.mixture)
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
