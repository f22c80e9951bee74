"""How experiments trained: tables of their epochs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from dcmnet.experiment.directory import Experiment
from dcmnet.experiment.metrics import EpochRecord
from store_schema.problems import CheckpointError


def history_table(history: Sequence[EpochRecord]) -> pd.DataFrame:
    """Returns one row per epoch, with columns such as ``train.loss``; empty without epochs."""
    table = pd.json_normalize([record.model_dump() for record in history])
    return table.set_index("epoch") if len(table) else table


def analyze_training_history(experiment: str | Path) -> pd.DataFrame:
    """Returns an experiment's epochs: a row each, columns such as ``train.loss``.

    Raises:
        CheckpointError: No epoch has been finished.
    """
    history = Experiment(experiment).history()
    if not history:
        raise CheckpointError.of(
            str(experiment),
            wrong="no finished epoch of an experiment is here",
            consequence="there is no history to analyse",
            remedy="Give the directory of an experiment, or resume it with 'dcmnet resume'",
        )
    return history_table(history)


def batch_analysis_summary(directory: str | Path = "experiments") -> pd.DataFrame:
    """Returns one row for each experiment below a directory.

    Returns:
        The configuration that differs most often (``n_dcm``, ``features``,
        ``batch_size``, ``learning_rate``), epochs finished, the best validation ESP
        RMSE (kcal/mol/e) and its epoch.
    """
    rows = {}
    for path in sorted(Path(directory).glob("*/config.json")):
        experiment = Experiment(path.parent)
        config, history = experiment.config(), experiment.history()
        best = [record for record in history if record.best]
        rows[path.parent.name] = {
            "n_dcm": config.model.n_dcm,
            "features": config.model.features,
            "batch_size": config.training.batch_size,
            "learning_rate": config.training.learning_rate,
            "epochs": len(history),
            "best_epoch": best[-1].epoch if best else None,
            "best_esp_rmse": best[-1].valid.get("esp_rmse") if best else None,
        }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("experiment")
