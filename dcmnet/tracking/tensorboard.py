"""TensorBoard: every metric per epoch, and now and then histograms and a figure."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import jax
import numpy as np
from jaxtyping import Float
from tensorboardX import summary
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.utils import figure_to_image
from typing_extensions import override

from dcmnet.config import ExperimentConfig
from dcmnet.experiment.metrics import EpochRecord
from dcmnet.model import Parameters
from dcmnet.model.observables import Observables
from dcmnet.training.followers import Ending, Follower
from pipeline.loader import MoleculeBatch
from store_schema.units import HARTREE_IN_KCAL_PER_MOL

if TYPE_CHECKING:  # a second to import, and not needed before the first summary
    from matplotlib.figure import Figure

_BINS = 64
# What an epoch is besides its metrics.
_OF_THE_RUN = ("learning_rate", "gradient_norm", "molecules_per_second", "input_wait_fraction")


class ScalarWriter(Protocol):
    """What a TensorBoard writer offers for numbers; histograms and figures if it has them."""

    def add_scalar(self, tag: str, scalar_value: float, global_step: int) -> Any:
        """Writes a number."""


class EventFile:
    """A TensorBoard event file of its own for each time that an experiment runs.

    It has the methods of a ``SummaryWriter`` but no thread: what is flushed is written,
    in the order of the calls, as a run that may be killed at any moment needs it.
    """

    def __init__(self, folder: Path, epochs: int) -> None:
        """Opens a file after so many epochs.

        Epochs that a killed run wrote beyond its last checkpoint are written again;
        readers drop what a session that starts at an earlier step disowns.
        """
        folder.mkdir(parents=True, exist_ok=True)
        # A file is named by its second; two runs within one must not share it.
        suffix = f".{os.getpid()}.{time.perf_counter_ns()}"
        self._events = EventsWriter(str(folder / "events"), suffix)
        start = SessionLog(status=SessionLog.START)
        self._events.write_event(Event(step=epochs + 1, session_log=start))

    def add_scalar(self, tag: str, scalar_value: float, global_step: int) -> None:
        """Writes a number."""
        self._add(summary.scalar(tag, scalar_value), global_step)

    def add_histogram(self, tag: str, values: Float[np.ndarray, " n"], global_step: int) -> None:
        """Writes the distribution of values."""
        self._add(summary.histogram(tag, values, bins=_BINS), global_step)

    def add_figure(self, tag: str, figure: Figure, global_step: int) -> None:
        """Writes a figure as an image."""
        self._add(summary.image(tag, figure_to_image(figure)), global_step)

    def flush(self) -> None:
        """Sees what was written to the disk."""
        self._events.flush()

    def close(self) -> None:
        """Closes the file."""
        self._events.close()

    def _add(self, what: Any, step: int) -> None:
        self._events.write_event(Event(summary=what, step=step, wall_time=time.time()))


class TensorBoard(Follower):
    """Follows a run in event files, or in a writer that the caller has."""

    def __init__(self, folder: Path, writer: ScalarWriter | None = None) -> None:
        """Takes the folder of the event files, or the writer that is used in their place."""
        self._folder = folder
        self._writer = writer
        self._file: EventFile | None = None

    @override
    def on_start(self, config: ExperimentConfig, history: Sequence[EpochRecord]) -> None:
        """Opens a file of its own for this time that the experiment runs."""
        if self._writer is None:
            self._file = EventFile(self._folder, history[-1].epoch if history else 0)
            self._writer = self._file

    @override
    def on_epoch(self, record: EpochRecord) -> None:
        """Writes all metrics."""
        write_scalars(self._open, record)

    @override
    def on_summary(
        self, epoch: int, params: Parameters, predicted: Observables, batch: MoleculeBatch
    ) -> None:
        """Writes histograms and a figure."""
        write_distributions(self._open, epoch, params, predicted, batch)

    @override
    def on_end(self, ending: Ending) -> None:
        """Closes the file."""
        if self._file is not None:
            self._file.close()

    @property
    def _open(self) -> ScalarWriter:
        assert self._writer is not None, "on_start comes first"
        return self._writer


def scalars_of(record: EpochRecord) -> dict[str, float]:
    """Returns an epoch's numbers as ``train/...``, ``valid/...`` and ``run/...``.

    Those of a further store are ``valid-NAME/...``.
    """
    others = {f"valid-{Path(at).stem}": found for at, found in record.valid_of_others.items()}
    parts = {"train": record.train, "valid": record.valid, **others}
    metrics = {f"{part}/{name}": v for part, found in parts.items() for name, v in found.items()}
    return metrics | {f"run/{name}": getattr(record, name) for name in _OF_THE_RUN}


def write_scalars(writer: ScalarWriter, record: EpochRecord) -> None:
    """Writes an epoch's numbers to the disk.

    They have to be there before the epoch's checkpoint is, or a resumed run lacks them.
    """
    for tag, value in scalars_of(record).items():
        writer.add_scalar(tag, value, record.epoch)
    flush(writer)


def write_distributions(
    writer: ScalarWriter,
    epoch: int,
    params: Parameters,
    predicted: Observables,
    batch: MoleculeBatch,
) -> None:
    """Writes histograms of parameters and predictions, and predicted against reference ESP.

    Args:
        writer: One without ``add_histogram`` or ``add_figure`` gets none.
        epoch: Counted from 1.
        params: Parameters that predicted.
        predicted: What they predict for the batch.
        batch: Validation molecules, the same ones every time.
    """
    predicted, params = jax.device_get((predicted, params))
    reference, points = _esp(predicted, batch)
    if hasattr(writer, "add_histogram"):
        atoms = np.asarray(batch.atom_mask)
        distances = np.linalg.norm(predicted.displacements, axis=-1)
        values = {
            "distributed_charges/e": predicted.charges[atoms].ravel(),
            "displacements/angstrom": distances[atoms].ravel(),
            "esp_error/kcal_per_mol_e": (points - reference) * HARTREE_IN_KCAL_PER_MOL,
        }
        for path, leaf in jax.tree_util.tree_leaves_with_path(params):
            name = jax.tree_util.keystr(path, simple=True, separator="/")
            values[name.replace("params/", "parameters/", 1)] = np.ravel(leaf)
        for tag, array in values.items():
            # A histogram has a place for numbers only, also in a run that diverged.
            finite = array[np.isfinite(array)]
            if finite.size:
                writer.add_histogram(tag, finite, epoch)
    if hasattr(writer, "add_figure") and reference.size:
        from dcmnet.analysis.figures.esp import esp_correlation

        writer.add_figure(
            "esp/predicted_against_reference", esp_correlation(reference, points), epoch
        )
    flush(writer)


def _esp(
    predicted: Observables, batch: MoleculeBatch
) -> tuple[Float[np.ndarray, " point"], Float[np.ndarray, " point"]]:
    """Returns reference and predicted ESP at the valid points, hartree/e."""
    known = batch.grid_mask & (batch.has_esp & batch.molecule_mask)[:, None]
    return np.asarray(batch.esp)[known], np.asarray(predicted.esp)[known]


def flush(writer: ScalarWriter) -> None:
    """Sees what was written to the disk, where the writer keeps it back."""
    if hasattr(writer, "flush"):
        writer.flush()
