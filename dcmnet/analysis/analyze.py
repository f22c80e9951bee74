"""From a checkpoint to results in the store and the files of an analysis."""

from __future__ import annotations

import importlib.metadata
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Int
from pydantic import BaseModel, ConfigDict

from dcmnet.analysis.figures import save_figures
from dcmnet.analysis.predict import Values, predict_batches
from dcmnet.analysis.summary import molecule_table, summarize
from dcmnet.config import ExperimentConfig
from dcmnet.experiment import Experiment, load_model
from pipeline import make_loader, open_store, read_schema
from pipeline.loader import BatchDataset
from pipeline.splits import split_store
from pipeline.zarr_store import ResultsWriter
from store_schema.names import ATOM, DCM, GRID_POINT, MOLECULE, Variable
from store_schema.problems import TrainingError
from store_schema.results import RESULT_VARIABLES, ResultsSchema

_SPLIT = Variable("split", (MOLECULE,), "str", "none", "split of the molecule in this experiment")
_VERSIONED = ("dcm-store", "jax", "flax", "e3x", "numpy", "zarr")


class Analysis(BaseModel):
    """What an analysis made.

    Attributes:
        results: Path of the group in the store.
        store: The store.
        epoch: Epoch of the checkpoint.
        summary: The numbers, as in ``best_analysis.json``.
        files: Files written beside the experiment.
    """

    model_config = ConfigDict(frozen=True)

    results: str
    store: str
    epoch: int
    summary: dict[str, Any]
    files: tuple[Path, ...]


def analyze(
    experiment: str | Path,
    *,
    store: str | Path | None = None,
    split: str = "test",
    checkpoint: str = "best",
    name: str | None = None,
    overwrite: bool = False,
) -> Analysis:
    """Predicts a split of a store and writes the results back into it.

    Args:
        experiment: Directory of the experiment.
        store: Store to analyse; the one it was trained on where left out.
        split: ``train``, ``valid``, ``test`` or ``all``.
        checkpoint: ``best``, ``latest`` or ``epoch_N``.
        name: Name of the results group; the experiment's where left out, with the
            checkpoint behind it unless that is the best.
        overwrite: Whether results of that name are replaced.

    Raises:
        CheckpointError: There is no such checkpoint, or it does not fit.
        StoreError: The store is not valid, or has results of that name already.
        TrainingError: The split has no molecules.
    """
    source = Experiment(experiment)
    config = source.config()
    path = str(store or config.data.store)
    model = load_model(experiment, checkpoint)
    group = name or (config.name if checkpoint == "best" else f"{config.name}-{checkpoint}")
    loader = _open_split(path, config, split)
    schema = ResultsSchema(
        experiment=config.name,
        checkpoint=checkpoint,
        epoch=model.epoch,
        split=split,
        n_molecules=loader.n_molecules,
        n_dcm=config.model.n_dcm,
        config=config.model_dump(mode="json"),
        versions={package: importlib.metadata.version(package) for package in _VERSIONED},
    )
    _write_results(path, group, schema, predict_batches(model, loader, _widths(path)), overwrite)
    table = molecule_table(open_store(path), group)
    return Analysis(
        results=f"results/{group}",
        store=path,
        epoch=model.epoch,
        summary=summarize(table),
        files=_write_files(source, group, schema, table, path),
    )


def _open_split(store: str, config: ExperimentConfig, split: str) -> BatchDataset:
    loader = make_loader(
        store,
        batch_size=config.training.batch_size,
        split=split,
        cutoff=config.model.cutoff,
        shuffle=False,
        split_fractions=config.data.split_fractions,
    )
    if loader.n_molecules:
        return loader
    raise TrainingError.of(
        f"{store}, split {split!r}",
        expected="at least one molecule",
        received="none",
        consequence="there is nothing to analyse",
        remedy="Name another split, or analyse --split all",
    )


def _widths(store: str) -> dict[str, int]:
    schema = read_schema(store)
    return {ATOM: schema.max_atoms, GRID_POINT: schema.max_grid}


def _write_results(
    store: str,
    group: str,
    schema: ResultsSchema,
    predicted: Iterable[tuple[Int[np.ndarray, " n"], Values]],
    overwrite: bool,
) -> None:
    fractions = ExperimentConfig.model_validate(schema.config).data.split_fractions
    labels = split_store(store, fractions).labels.astype(object)
    writer = ResultsWriter(
        store,
        group,
        [*RESULT_VARIABLES.values(), _SPLIT],
        {DCM: schema.n_dcm},
        schema.model_dump(mode="json"),
        overwrite=overwrite,
        coordinates=("split",),
    )
    with writer:
        for rows, values in predicted:
            writer.write(rows, {**values, "split": labels[rows]})
        writer.commit()


def _write_files(
    experiment: Experiment, group: str, schema: ResultsSchema, table: pd.DataFrame, store: str
) -> tuple[Path, ...]:
    folder = experiment.analysis_path
    if group != schema.experiment:  # so that what lies there stays that of the best
        folder /= group
    folder.mkdir(parents=True, exist_ok=True)
    summary = folder / f"{schema.checkpoint}_analysis.json"
    about = schema.model_dump(mode="json", exclude={"config"})
    summary.write_text(json.dumps({**about, **summarize(table)}, indent=2) + "\n")
    predictions = folder / "predictions.csv"
    table.to_csv(predictions)
    history = folder / "training_history.csv"
    pd.json_normalize([record.model_dump() for record in experiment.history()]).to_csv(
        history, index=False
    )
    figures = save_figures(folder, open_store(store), group, table, experiment.history())
    return (summary, predictions, history, *figures)
