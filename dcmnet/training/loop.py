"""Epoch after epoch: validation, checkpoints, and when to stop."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from dcmnet.config import TrainingConfig
from dcmnet.experiment.checkpoints import Checkpoints
from dcmnet.experiment.metrics import EpochRecord
from dcmnet.experiment.state import Progress
from dcmnet.training.epoch import Data, Epoch, Trainer
from dcmnet.training.saving import Saving


def train(
    trainer: Trainer,
    data: Data,
    checkpoints: Checkpoints,
    progress: Progress,
    *,
    on_epoch: Callable[[EpochRecord], None],
    on_batch: Callable[[], None] = lambda: None,
    stop: Callable[[], bool] = lambda: False,
    enough: Callable[[], bool] = lambda: False,
    agreed: Callable[[float], float] = lambda number: number,
) -> Progress:
    """Trains until the last epoch, early stopping, the time limit or a request to stop.

    The latest checkpoint is saved every few seconds, with the best one where the validation
    improved, and periodic ones where they are due. A request to stop saves the latest
    checkpoint in the middle of the epoch.

    Args:
        trainer: Holds the state; its configuration says how long.
        data: The molecules, at the place where the run stands.
        checkpoints: Where to save.
        progress: Where the run stands.
        on_epoch: Called with each epoch's record, before its checkpoint is saved.
        on_batch: Called after each batch.
        stop: Asked after each update whether to stop.
        enough: Asked before each epoch whether to end.
        agreed: Returns the number that decides, of those that several processes have.

    Returns:
        Where the run stands now.
    """
    config, saving = trainer.config, Saving(trainer, checkpoints)
    started = time.perf_counter() - progress.seconds
    with saving:
        while not (is_over(config, progress) or enough()):
            epoch = Epoch(trainer, data, progress.epoch + 1, progress.under_way)
            ended = epoch.run(stop, on_batch)
            place: dict[str, Any] = {
                "iterator": data.train.get_state(),
                "seconds": agreed(time.perf_counter() - started),
            }
            if not ended:
                progress = progress.model_copy(update={**place, "under_way": epoch.state()})
                saving.inside_epoch(progress)
                break
            record = epoch.record()
            # No epoch is reported before the checkpoints of the previous one are whole.
            checkpoints.wait()
            value = agreed(criterion(record))
            better = value < progress.best
            progress = Progress(
                epoch=epoch.number,
                best=value if better else progress.best,
                best_epoch=epoch.number if better else progress.best_epoch,
                **place,
            )
            on_epoch(record.model_copy(update={"best": better}))
            saving.after_epoch(progress)
    return progress


def criterion(record: EpochRecord) -> float:
    """Returns what decides which epoch is best: the ESP RMSE, or the loss where there is none."""
    metrics = record.valid or record.train
    return metrics.get("esp_rmse", metrics["loss"])


def is_over(config: TrainingConfig, progress: Progress) -> bool:
    """Tells whether a run has come to its end: last epoch, no more patience, or no more time."""
    patience = config.early_stopping_epochs
    limit = config.time_limit_minutes
    return (
        (progress.epoch >= config.num_epochs)
        or (patience is not None and progress.epoch - progress.best_epoch >= patience)
        or (limit is not None and progress.seconds >= 60.0 * limit)
    )
