"""What trackers know of a run, whichever they are: its identity there, and its settings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from dcmnet.config import ExperimentConfig
from dcmnet.experiment.directory import Experiment
from dcmnet.tracking.guard import in_public
from pipeline.files import write_text
from store_schema.documents import read_validated
from store_schema.problems import ConfigError


class TrackedRun(BaseModel):
    """What a tracker calls the run of an experiment, kept in ``tracked/NAME.json``.

    Attributes:
        run: Its identity there; a resumed run keeps it.
        epoch: The last epoch that was reported to it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    run: str
    epoch: int = 0

    @staticmethod
    def path(experiment: Experiment, name: str) -> Path:
        """Returns where it is kept."""
        return experiment.directory / "tracked" / f"{name}.json"

    @classmethod
    def read(cls, experiment: Experiment, name: str) -> TrackedRun | None:
        """Reads it; None where the tracker has not followed the experiment yet."""
        path = cls.path(experiment, name)
        try:
            return read_validated(
                cls,
                path,
                expected="the identity of a tracked run",
                error=ConfigError,
                consequence=f"{name} cannot follow the run",
                remedy="Restore the file, or delete it to begin another run there",
            )
        except FileNotFoundError:
            return None

    def write(self, experiment: Experiment, name: str) -> None:
        """Keeps it."""
        path = self.path(experiment, name)
        path.parent.mkdir(exist_ok=True)
        write_text(path, self.model_dump_json() + "\n")


def settings_of(config: ExperimentConfig) -> dict[str, Any]:
    """Returns all fields by their dotted names, without credentials in URLs."""
    fields: dict[str, Any] = {}
    for name, value in config.model_dump(mode="json").items():
        inner = value if isinstance(value, dict) else {"": value}
        fields |= {f"{name}.{key}".strip("."): part for key, part in inner.items()}
    return {k: in_public(v) if isinstance(v, str) else v for k, v in fields.items()}
