"""Puts trained networks into the box: weights, and a card with what they are measured to be.

``python -m recipes.release dcm2 --members experiments/dcm2-{0,1,2} --trained broad.zarr good.zarr
--tested good.zarr --unseen reference.zarr``
"""

from __future__ import annotations

import argparse
import functools
import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
from ase.data import chemical_symbols
from rich.progress import track

from dcmnet.experiment.directory import load_model
from dcmnet.experiment.versions import installed_versions
from dcmnet.model.calibration import calibrated
from dcmnet.model.domain import Domain
from dcmnet.model.molecule import Structure
from dcmnet.model.trained import TrainedModel
from dcmnet.prediction import Predictor
from dcmnet.prediction.charges import potential_matrix
from dcmnet.pretrained.box import BOX, packed
from dcmnet.pretrained.card import Accuracy, ModelCard, TrainingData
from pipeline import read_schema
from pipeline.chemistry.multipole_ladder import Ladder, fitted_ladder
from pipeline.files import replaced, write_text
from pipeline.store.splits import assign
from recipes.records import Record, records
from store_schema.units import HARTREE_IN_KCAL_PER_MOL

_LARGEST_SMALL: Final = 6
_CARBON: Final = 6
# Heavy atoms at most, and what such molecules are called.
_SIZES: Final = ((3, "to 3"), (6, "4 to 6"), (9, "7 to 9"), (np.inf, "10 and more"))
_LIMITS: Final = (
    "Elements other than those it was trained on: their charges mean nothing.",
    "Ions of charge +2, -2 and beyond, radicals, metals, and clusters of more than two molecules.",
    "CH3+ and CH3-: the networks agree, and ESP errors are 2.5 to 3.5 where 0.15 to 1.5 is stated.",
    "Energies and forces: it has none. Charges at one geometry are exact for that one only.",
    "Points nearer than 1.4 van der Waals radii, where it was neither trained nor tested.",
)
_RECIPE: Final = "recipes/README.md"
# What is in the stores of the recipe, by their names.
_WHAT: Final = {
    "corrected": "QM9, fragments with S and Cl, ions",
    "good": "small molecules and ions, some of QM9",
    "displaced": "small molecules and ions, their atoms displaced by 0.1 to 0.2 Å",
    "dimers": "hydrogen-bonded dimers of small molecules and ions",
}
_CORRECTED: Final = "GFN2-xTB, corrected by what it lacks of PBE0/def2-SVP"


class Tested(NamedTuple):
    """What a held-out molecule came to, kcal/mol/e.

    Attributes:
        groups: Which molecules it is one of.
        level: Level of theory of its ESP.
        esp: Root mean square of the ESP.
        error: RMSE of the model.
        expected: RMSE that the spread of its ensemble stands for, uncalibrated.
        monopoles: RMSE of the stored monopoles, NaN where there are none.
        ladder: RMSE of fitted multipoles.
    """

    groups: tuple[str, ...]
    level: str
    esp: float
    error: float
    expected: float
    monopoles: float
    ladder: Ladder


def tested(
    model: TrainedModel, every: Sequence[tuple[tuple[str, ...], str, Record]]
) -> Iterator[Tested]:
    """Yields what a model comes to on molecules, each with its groups and level of theory."""
    structures = [_structure(one) for *_, one in every]
    predicted = Predictor(model).predict(structures)
    pairs = list(zip(every, predicted, strict=True))
    for (groups, level, one), molecule in track(pairs, "testing"):
        grid, esp = one["vdw_surface"].astype(np.float64), one["esp"]
        assert molecule.uncertainty is not None
        yield Tested(
            groups,
            level,
            _rms(esp),
            _rms(molecule.esp(grid) - esp),
            molecule.uncertainty,
            _rms(potential_matrix(grid, one["R"]) @ one["mono"] - esp),
            Ladder(
                *(
                    left * HARTREE_IN_KCAL_PER_MOL
                    for left in fitted_ladder(one["R"], float(one["total_charge"]), grid, esp)
                )
            ),
        )


def _structure(one: Record) -> Structure:
    name = str(one["id"])
    charge = float(one["total_charge"])
    return Structure(name, name, one["Z"].astype(np.int64), one["R"], charge)


def _groups(one: Record, is_displaced: bool) -> tuple[str, ...]:
    """Groups of a molecule, by charge and size, and by its elements where it is neutral."""
    for kind, is_one in (("displaced atoms", is_displaced), ("dimers", "." in _molecule(one))):
        if is_one:
            return (f"{kind}, ions" if one["total_charge"] else f"{kind}, neutral",)
    if one["total_charge"]:
        return ("cations" if one["total_charge"] > 0 else "anions",)
    small = (one["Z"] > 1).sum() <= _LARGEST_SMALL
    size = "neutral, to 6 heavy atoms" if small else "neutral, 7 and more heavy atoms"
    hetero = [chemical_symbols[number] for number in sorted(set(one["Z"])) if number > _CARBON]
    return (size, *(f"with {symbol}, neutral" for symbol in hetero))


def _rms(values: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(values)))) * HARTREE_IN_KCAL_PER_MOL


def accuracy(found: Sequence[Tested]) -> list[Accuracy]:
    """Returns a row for each level and group of molecules."""
    rows = []
    for level, group in sorted({(one.level, group) for one in found for group in one.groups}):
        some = [one for one in found if one.level == level and group in one.groups]
        errors = np.array([one.error for one in some])
        monopoles = [one.monopoles for one in some if np.isfinite(one.monopoles)]
        mean_ladder = np.mean([one.ladder for one in some], axis=0).round(3)
        rows.append(
            Accuracy(
                molecules=group,
                level_of_theory=level,
                n_molecules=len(some),
                esp=round(float(np.mean([one.esp for one in some])), 3),
                mean=round(float(errors.mean()), 3),
                median=round(float(np.median(errors)), 3),
                percentile_95=round(float(np.percentile(errors, 95)), 3),
                monopoles=round(float(np.mean(monopoles)), 3) if monopoles else None,
                fitted_charges=mean_ladder[0],
                fitted_dipoles=mean_ladder[1],
                fitted_quadrupoles=mean_ladder[2],
            )
        )
    return rows


def training_data(stores: Sequence[Path]) -> tuple[list[TrainingData], Domain]:
    """Returns what stores hold to train on."""
    parts, domain = [], Domain()
    for store in stores:
        found = [one for one in records(store) if _split(one) == "train"]
        levels = {source.level_of_theory for source in read_schema(store).sources} - {""}
        domain = functools.reduce(Domain.__or__, map(Domain.of, map(_structure, found)), domain)
        parts.append(
            TrainingData(
                level_of_theory=", ".join(sorted(levels)) or _CORRECTED,
                what=_WHAT[store.stem],
                n_molecules=len(found),
                n_ions=sum(bool(round(float(one["total_charge"]))) for one in found),
                by_element=_counted(symbol for one in found for symbol in _elements(one)),
                by_charge=_counted(_charge(float(one["total_charge"])) for one in found),
                by_size=_counted(_size(one) for one in found),
            )
        )
    return parts, domain


def _elements(one: Record) -> list[str]:
    return [chemical_symbols[number] for number in sorted(set(one["Z"]))]


def _size(one: Record) -> str:
    heavy = int((one["Z"] > 1).sum())
    return next(name for most, name in _SIZES if heavy <= most)


def _counted(kinds: Iterable[str]) -> dict[str, int]:
    """How often each was met, in the order of elements, charges and sizes."""
    counts = Counter(kinds)
    order = (*chemical_symbols, *map(_charge, range(-9, 10)), *(name for _, name in _SIZES))
    return {kind: counts[kind] for kind in order if kind in counts}


def _charge(charge: float) -> str:
    return f"{round(charge):+d}" if round(charge) else "0"


def _molecule(one: Record) -> str:
    """SMILES of a molecule, whose geometries have numbers behind it."""
    name = str(one["id"])
    return name.rpartition("/")[0] or name


def _split(one: Record) -> str:
    return str(assign([_molecule(one)], (0.8, 0.1))[0])


def release(
    name: str,
    members: Sequence[str],
    *,
    trained: Sequence[Path],
    test_stores: Sequence[Path],
    displaced: Sequence[Path],
    unseen: Sequence[Path],
    box: Path = BOX,
) -> ModelCard:
    """Measures an ensemble on molecules it has not seen, and writes it into the box.

    Args:
        name: As ``load_model`` will take it.
        members: Experiments; the first one will predict.
        trained: Stores it was trained on, of whose ``train`` split.
        test_stores: Stores whose ``test`` split it is tested on.
        displaced: Such stores, of geometries far from their minima.
        unseen: Stores that it is tested on as a whole, but for molecules of ``trained``.
        box: Where models are.
    """
    first, *others = (load_model(member) for member in members)
    parts, domain = training_data(trained)
    model = TrainedModel(
        first.config,
        first.params,
        name=name,
        domain=domain,
        ensemble=[other.params for other in others],
    )
    seen = {_molecule(one) for store in trained for one in records(store) if _split(one) != "test"}
    every = [
        (_groups(one, store in displaced), _level(store), one)
        for store in (*test_stores, *displaced, *unseen)
        for one in records(store)
        if _molecule(one) not in seen and (store in unseen or _split(one) == "test")
    ]
    found = list(tested(model, every))
    calibration = calibrated(
        np.array([one.error for one in found]), np.array([one.expected for one in found])
    )
    assert calibration is not None
    weights = packed([model.params, *model.ensemble])
    card = ModelCard(
        name=name,
        model=first.config,
        n_members=len(members),
        sha256=hashlib.sha256(weights).hexdigest(),
        elements=tuple(chemical_symbols[number] for number in sorted(domain.elements or ())),
        total_charges=tuple(sorted(map(round, domain.total_charges or ()))),
        most_atoms=domain.most_atoms or 0,
        radicals=bool(domain.radicals),
        training=tuple(parts),
        accuracy=tuple(accuracy(found)),
        calibration=calibration,
        limits=_LIMITS,
        recipe=_RECIPE,
        versions=installed_versions(),
    )
    box.mkdir(exist_ok=True)
    with replaced(box / f"{name}.safetensors") as partial:
        partial.write_bytes(weights)
    write_text(box / f"{name}.json", card.model_dump_json(indent=2) + "\n")
    return card


def _level(store: Path) -> str:
    return ", ".join(sorted({s.level_of_theory for s in read_schema(store).sources} - {""}))


def main() -> None:
    """Releases the ensemble that the command line names, and prints its card."""
    from rich.console import Console

    from dcmnet.pretrained.page import print_card

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name")
    parser.add_argument("--members", nargs="+", required=True)
    for option in ("--trained", "--tested", "--displaced", "--unseen"):
        parser.add_argument(option, nargs="+", type=Path, default=[])
    asked = parser.parse_args()
    card = release(
        asked.name,
        asked.members,
        trained=asked.trained,
        test_stores=asked.tested,
        displaced=asked.displaced,
        unseen=asked.unseen,
    )
    print_card(card, Console(width=140))


if __name__ == "__main__":
    main()
