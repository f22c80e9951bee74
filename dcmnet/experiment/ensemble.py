"""Several experiments as one ensemble: the first predicts, the others say how sure it is."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict

from dcmnet.experiment.directory import Experiment, experiment_config, load_model
from dcmnet.model.calibration import Calibration
from dcmnet.model.trained import TrainedModel
from pipeline.files import write_text
from store_schema.documents import read_json, validated
from store_schema.problems import CheckpointError, ConfigError

_FILE: Final = "ensemble.json"


class EnsembleRecord(BaseModel):
    """What an analysis measured of an ensemble; a file of its first experiment.

    Attributes:
        members: Names of its experiments and their checkpoint, the first one's first.
        calibration: What its spread means.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    members: tuple[str, ...]
    calibration: Calibration


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
    for source, other in zip(sources[1:], others, strict=True):
        if other.network != first.network or other.ensemble or first.ensemble:
            raise ConfigError.of(
                f"ensemble of {', '.join(map(str, sources))}",
                expected=f"experiments with the network of {first.name}, trained differently",
                received=f"{source}, "
                + ("an ensemble itself" if other.ensemble else "which has another network"),
                consequence="their spread would say nothing of either",
                remedy="Train members with the same settings and another training.seed each",
            )
    return TrainedModel(
        first.network,
        first.params,
        first.checkpoint,
        first.epoch,
        name=first.name,
        domain=first.domain,
        ensemble=[other.params for other in others],
        calibration=_recorded(sources, checkpoint),
    )


def member_names(sources: Sequence[str | Path], checkpoint: str) -> tuple[str, ...]:
    """Returns what the members of an ensemble are called, such as ``first/best``."""
    return tuple(f"{experiment_config(source).name}/{checkpoint}" for source in sources)


def record_ensemble(
    sources: Sequence[str | Path], checkpoint: str, calibration: Calibration
) -> Path:
    """Notes what was measured, for later predictions; returns the file."""
    path = _path(sources[0])
    members = member_names(sources, checkpoint)
    record = EnsembleRecord(members=members, calibration=calibration)
    write_text(path, record.model_dump_json(indent=2) + "\n")
    return path


def _recorded(sources: Sequence[str | Path], checkpoint: str) -> Calibration | None:
    path = _path(sources[0])
    if not path.is_file():
        return None
    try:
        fields = read_json(path)
    except ValueError as error:
        fields = str(error)
    record = validated(
        EnsembleRecord,
        fields,
        path,
        expected="what 'dcmnet analyze' measured of an ensemble",
        error=CheckpointError,
        consequence="the ensemble was not loaded",
        remedy="Delete the file, and analyse the ensemble again",
    )
    same = record.members == member_names(sources, checkpoint)
    return record.calibration if same else None


def _path(source: str | Path) -> Path:
    return Experiment(source).directory / _FILE
