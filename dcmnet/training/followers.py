"""Objects that follow a run: trackers, and the trial of a sweep."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Literal

from dcmnet.config import ExperimentConfig
from dcmnet.experiment.metrics import EpochRecord
from dcmnet.model import Parameters
from dcmnet.model.observables import Observables
from pipeline.loader import MoleculeBatch

Ending = Literal["finished", "stopped", "failed"]


class Follower:
    """Follows a run; a subclass overrides the events that it needs.

    A resumed run begins with ``on_start`` again, and may repeat epochs that it reported
    before it was killed.
    """

    def on_start(self, config: ExperimentConfig, history: Sequence[EpochRecord]) -> None:
        """Called when training begins, or resumes after the epochs of ``history``."""

    def on_epoch(self, record: EpochRecord) -> None:
        """Called at the end of an epoch, before its checkpoint is saved."""

    def on_summary(
        self, epoch: int, params: Parameters, predicted: Observables, batch: MoleculeBatch
    ) -> None:
        """Is shown, now and then, what the parameters predict for the same validation molecules.

        Args:
            epoch: Counted from 1.
            params: Parameters that predicted.
            predicted: What they predict for the batch.
            batch: The molecules.
        """

    def on_end(self, ending: Ending) -> None:
        """Called when the run has ended; a ``stopped`` one can be resumed."""

    def enough(self) -> bool:
        """Tells, before each epoch, whether the run shall end early."""
        return False


@contextmanager
def following(
    followers: Sequence[Follower], config: ExperimentConfig, history: Sequence[EpochRecord]
) -> Iterator[None]:
    """Tells followers of the start of what is inside, and of how it ended."""
    started: list[Follower] = []
    ending: Ending = "failed"
    try:
        for follower in followers:
            follower.on_start(config, history)
            started.append(follower)
        yield
        ending = "stopped" if any(follower.enough() for follower in followers) else "finished"
    except (KeyboardInterrupt, SystemExit):
        ending = "stopped"
        raise
    finally:
        for follower in started:
            follower.on_end(ending)
