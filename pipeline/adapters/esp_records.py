"""A file of one molecule's ESP as a record."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from pipeline.adapters.columns import Column
from pipeline.adapters.damage import damage_reported
from pipeline.adapters.esp_files import ESP_FILES
from pipeline.adapters.records import distinct


class EspRecord:
    """One molecule; see ``pipeline.adapters.records.Records``."""

    def __init__(self, path: Path) -> None:
        """Reads the file.

        Raises:
            SourceError: It is damaged, or has no ESP.
        """
        self._format = ESP_FILES[path.suffix.lower()]
        self._paths = (path.absolute(),)
        self.convention = self._format.convention
        self.place = str(path)
        self.files: tuple[Path, ...] = (path,)
        self.unread: Mapping[str, str] = {}
        self.metadata: Mapping[str, str] = {"units": json.dumps(dict(self._format.units))}
        header = {key: Column(a.shape, a.dtype) for key, a in self._arrays(0).items()}
        self.kinds, self.kind_of = distinct([header])

    def name(self, record: int) -> str:
        """Returns the file's name without its ending."""
        return self._paths[record].stem

    def read(self, record: int, parts: Mapping[str, slice]) -> dict[str, np.ndarray]:
        """Reads the file again; see ``Records.read``."""
        arrays = self._arrays(record)
        return {key: arrays[key] for key in parts}

    def _arrays(self, record: int) -> dict[str, np.ndarray]:
        with damage_reported(self.place, "a molecule with its ESP"):
            return self._format.read(self._paths[record])
