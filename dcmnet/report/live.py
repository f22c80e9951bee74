"""How a run stands at this moment, as shown by the bar of a page that is kept open."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from dcmnet.config import TrainingConfig
from dcmnet.experiment.metrics import EpochRecord
from dcmnet.report.content import State
from dcmnet.report.sections import duration

# A run that was never silent for so many of its epochs, and not below a minute, is stalled.
_EPOCHS_OF_SILENCE: Final = 5.0
_LEAST_SILENCE: Final = 60.0
# Epochs that show how long one takes now.
_RECENT: Final = 10


@dataclass(frozen=True)
class Status:
    """What the bar of the page says.

    Attributes:
        state: Of the training; ``stalled`` while its process is there but silent.
        label: The state in a word.
        text: Where it stands, in words.
        done: Share that is done, from 0 to 1.
        version: Changes when there is a new page.
    """

    state: State | Literal["stalled"]
    label: str
    text: str
    done: float
    version: int = 0


def training_status(
    state: State, training: TrainingConfig, history: Sequence[EpochRecord], silent: float
) -> Status:
    """Returns how a run stands.

    Args:
        state: Whether it trains.
        training: Its configuration.
        history: Its epochs so far.
        silent: Seconds since the last of them was written down.
    """
    if not history:
        if state == "running":
            return Status(state, "Training", "the first epoch, which also compiles", 0.0)
        return Status(state, "Not trained", "no epoch yet", 0.0)
    epoch, epochs = history[-1].epoch, training.num_epochs
    place = f"epoch {epoch:,} of {epochs:,}"
    spent = sum(record.seconds for record in history)
    if state == "finished":
        text = f"{epoch:,} epochs in {duration(spent)}, {duration(silent)} ago"
        return Status(state, "Finished", text, 1.0)
    if state != "running":
        text = f"after {place}, {duration(silent)} ago; dcmnet resume continues"
        return Status(state, "Stopped", text, epoch / epochs)
    each = statistics.median(_net(record) for record in history[-_RECENT:])
    left = each * (epochs - epoch)
    if training.time_limit_minutes is not None:
        left = min(left, max(0.0, 60.0 * training.time_limit_minutes - spent))
    if silent > max(_LEAST_SILENCE, _EPOCHS_OF_SILENCE * each):
        text = f"{place}; none for {duration(silent)}, where one took {duration(each)}"
        return Status("stalled", "Stalled", text, epoch / epochs)
    text = f"{place} · {duration(each)} each · about {duration(left)} left"
    trained = sum(_net(record) for record in history)
    return Status(state, "Training", text, trained / max(trained + left, 1e-9))


def _net(record: EpochRecord) -> float:
    return max(0.0, record.seconds - record.compile_seconds)
