"""Checkpoints of several processes: the first writes and reads them, for all."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

from dcmnet.experiment.checkpoints import Checkpoints, Series
from dcmnet.experiment.state import Progress, TrainState
from dcmnet.model import Parameters
from dcmnet.training.processes.devices import Devices

_Tree = TypeVar("_Tree")


class SharedCheckpoints(Checkpoints):
    """The checkpoints of one experiment, of which only the first process sees the disk.

    A checkpoint is that of one process and does not depend on how many there were.
    """

    def __init__(self, directory: Path, devices: Devices) -> None:
        """Opens the checkpoints below a directory, on the first process."""
        self._devices, self._processes = devices, devices.processes
        if self._processes.is_first:
            super().__init__(directory)
        else:
            self.directory, self._managers = directory, {}

    def save(self, series: Series, step: int, state: TrainState, progress: Progress) -> None:
        """Starts writing a checkpoint, on the first process; see ``Checkpoints``."""
        if self._processes.is_first:
            super().save(series, step, self._on_host(state), progress)

    def restore(self, like: TrainState) -> tuple[TrainState, Progress]:
        """Restores the latest checkpoint on all processes; see ``Checkpoints``."""
        state = self._on_host(like)
        progress = Progress(epoch=0)
        with self._processes.together():
            if self._processes.is_first:
                state, progress = super().restore(state)
        return self._devices.replicate(state), self._of_first(progress)

    def restore_model(self, which: str, like: Parameters) -> tuple[Parameters, Progress]:
        """Restores parameters on the first device of all processes; see ``Checkpoints``."""
        params = self._on_host(like)
        progress = Progress(epoch=0)
        with self._processes.together():
            if self._processes.is_first:
                params, progress = super().restore_model(which, params)
        return self._devices.local(self._devices.replicate(params)), self._of_first(progress)

    def _on_host(self, tree: _Tree) -> _Tree:
        # Orbax takes a device of one process for a mistake where there are several.
        if self._processes.count == 1:
            return tree
        found: _Tree = self._devices.fetch(tree)
        return found

    def _of_first(self, progress: Progress) -> Progress:
        (text, *_) = self._processes.texts(progress.model_dump_json())
        return Progress.model_validate_json(text)
