"""Several experiments as one ensemble: the first predicts, the others say how sure it is."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import jax
import numpy as np
from pydantic import BaseModel, ConfigDict

from dcmnet.experiment.directory import Experiment, experiment_config, load_model
from dcmnet.model import Parameters
from dcmnet.model.calibration import Calibration
from dcmnet.model.trained import TrainedModel
from pipeline.files import write_text
from store_schema.documents import read_validated
from store_schema.problems import CheckpointError, ConfigError

_FILE: Final = "ensemble.json"
# Settings in which members may differ: what is random, what is reported and saved, and where
# a store lies.
_OF_A_MEMBER: Final = (
    *("store", "more_stores", "seed", "time_limit_minutes", "print_every_n_epochs"),
    *("save_every_n_epochs", "summary_every_n_epochs"),
)


class EnsembleRecord(BaseModel):
    """What an analysis measured of an ensemble.

    Attributes:
        members: Names of its experiments and their checkpoint, the first one's first.
        fingerprints: SHA-256 of the parameters of each, by which it is known again.
        split: Molecules that it was measured on.
        calibration: What its spread means.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    members: tuple[str, ...]
    fingerprints: tuple[str, ...]
    split: str
    calibration: Calibration


class EnsembleRecords(BaseModel):
    """The file ``ensemble.json`` of an experiment: ensembles whose first member it is."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    records: tuple[EnsembleRecord, ...] = ()


def load_ensemble(sources: Sequence[str | Path], checkpoint: str = "best") -> TrainedModel:
    """Loads experiments as one model.

    Args:
        sources: Directories of experiments, the one that predicts first; or a single model, as
            ``load_model`` takes it.
        checkpoint: ``best``, ``latest`` or ``epoch_N``, of each.

    Returns:
        The first one, with the others as its ensemble, calibrated where ``analyze`` measured it.

    Raises:
        CheckpointError: There is no such checkpoint, or it does not fit.
        ConfigError: A configuration is not valid, or the networks are not of one kind.
    """
    first, *others = (load_model(source, checkpoint) for source in sources)
    if not others:
        return first
    prints = tuple(_fingerprint(each.params) for each in (first, *others))
    unfit = [f"{m.name} is an ensemble already" for m in (first, *others) if m.ensemble]
    unfit += [f"{m.name} is another network" for m in others if m.config != first.config]
    if len(set(prints)) < len(prints):
        unfit.append("two have the same parameters")
    if unfit:
        raise ConfigError.of(
            f"ensemble of {', '.join(map(str, sources))}",
            wrong=f"{unfit[0]}; members are one network, trained with different seeds",
            consequence="their spread would mean nothing",
            remedy="Give one model in the box alone, or experiments that differ in training.seed",
        )
    if unlike := _unlike(sources):
        warnings.warn(
            f"members of the ensemble differ in {', '.join(unlike)}, not in training.seed alone: "
            "their spread says less of their errors",
            stacklevel=2,
        )
    return TrainedModel(
        first.config,
        first.params,
        first.checkpoint,
        first.epoch,
        name=first.name,
        domain=first.domain,
        ensemble=[other.params for other in others],
        calibration=_recorded(sources[0], prints),
    )


def _unlike(sources: Sequence[str | Path]) -> list[str]:
    """Returns the settings that make members unlike, other than their seed."""
    if not all(Path(source).is_dir() for source in sources):  # published parameters have none
        return []
    first, *others = (experiment_config(source) for source in sources)
    found = []
    for part in ("data", "training"):
        settings = getattr(first, part)
        found += [
            f"{part}.{name}"
            for name in type(settings).model_fields
            if name not in _OF_A_MEMBER
            and any(
                getattr(getattr(each, part), name) != getattr(settings, name) for each in others
            )
        ]
    return found


def member_names(sources: Sequence[str | Path], checkpoint: str) -> tuple[str, ...]:
    """Returns what the members of an ensemble are called, such as ``first/best``."""
    return tuple(f"{experiment_config(source).name}/{checkpoint}" for source in sources)


def record_ensemble(
    sources: Sequence[str | Path],
    checkpoint: str,
    model: TrainedModel,
    split: str,
    calibration: Calibration,
) -> Path:
    """Notes what was measured, for later predictions.

    Args:
        sources: Experiments of the ensemble.
        checkpoint: Of each.
        model: What ``load_ensemble`` made of them.
        split: Molecules that it was measured on.
        calibration: What came out.

    Returns:
        The file, in which one record of an ensemble takes the place of another.
    """
    prints = tuple(map(_fingerprint, (model.params, *model.ensemble)))
    record = EnsembleRecord(
        members=member_names(sources, checkpoint),
        fingerprints=prints,
        split=split,
        calibration=calibration,
    )
    path = _path(sources[0])
    others = [each for each in _read(path).records if each.fingerprints != prints]
    write_text(path, EnsembleRecords(records=(*others, record)).model_dump_json(indent=2) + "\n")
    return path


def _recorded(first: str | Path, prints: tuple[str, ...]) -> Calibration | None:
    found = [one for one in _read(_path(first)).records if one.fingerprints == prints]
    return found[0].calibration if found else None


def _read(path: Path) -> EnsembleRecords:
    try:
        return read_validated(
            EnsembleRecords,
            path,
            expected="what 'dcmnet analyze' measured of ensembles",
            error=CheckpointError,
            consequence="the ensemble was not loaded",
            remedy="Delete the file, and analyse the ensemble again",
        )
    except (FileNotFoundError, NotADirectoryError):  # as of a model in the box
        return EnsembleRecords()


def _fingerprint(params: Parameters) -> str:
    digest = hashlib.sha256()
    for leaf in jax.tree.leaves(params):
        digest.update(np.asarray(leaf).tobytes())
    return digest.hexdigest()


def _path(source: str | Path) -> Path:
    return Experiment(source).directory / _FILE
