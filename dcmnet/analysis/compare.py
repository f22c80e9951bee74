"""Experiments and checkpoints side by side, and how they trained."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from dcmnet.analysis.analyze import Analysis, analyze
from dcmnet.experiment import Experiment
from dcmnet.training.checkpoints import Checkpoints
from store_schema.problems import CheckpointError


def compare_checkpoints(
    experiment: str | Path, checkpoints: Sequence[str] | None = None, split: str = "valid"
) -> pd.DataFrame:
    """Analyses several checkpoints of an experiment on the same molecules.

    Args:
        experiment: Directory of the experiment.
        checkpoints: Their names; all that exist where left out.
        split: Molecules they are compared on.

    Returns:
        A row a checkpoint: ``epoch`` and mean and median of each error over molecules.

    Raises:
        CheckpointError: A checkpoint does not exist.
    """
    source = Experiment(experiment)
    if checkpoints is None:
        with Checkpoints(source.checkpoints_path, read_only=True) as found:
            checkpoints = found.names()
    rows = {
        name: _row(analyze(experiment, split=split, checkpoint=name, overwrite=True))
        for name in checkpoints
    }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("checkpoint")


def analyze_training_history(experiment: str | Path) -> pd.DataFrame:
    """Returns an experiment's epochs: a row each, columns such as ``train.loss``.

    Raises:
        CheckpointError: No epoch has been finished.
    """
    history = Experiment(experiment).history()
    if not history:
        raise CheckpointError.of(
            str(experiment),
            expected="an experiment with finished epochs",
            received="none",
            consequence="there is no history to analyse",
            remedy="Give the directory of an experiment, or go on with 'dcmnet resume'",
        )
    return pd.json_normalize([record.model_dump() for record in history]).set_index("epoch")


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
        config = experiment.config()
        best = [record for record in experiment.history() if record.best]
        rows[config.name] = {
            "n_dcm": config.model.n_dcm,
            "features": config.model.features,
            "batch_size": config.training.batch_size,
            "learning_rate": config.training.learning_rate,
            "epochs": len(experiment.history()),
            "best_epoch": best[-1].epoch if best else None,
            "best_esp_rmse": best[-1].valid.get("esp_rmse") if best else None,
        }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("experiment")


def _row(analysis: Analysis) -> dict[str, Any]:
    errors = analysis.summary["all"]
    numbers = {
        f"{name}_{statistic}": values[statistic]
        for name, values in errors.items()
        if values["count"]
        for statistic in ("mean", "median")
    }
    return {"epoch": analysis.epoch, "molecules": analysis.summary["n_molecules"], **numbers}
