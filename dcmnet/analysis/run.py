"""From a checkpoint to results in the store and the files of an analysis."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr
from pydantic import BaseModel, ConfigDict
from rich.console import Console

from dcmnet.analysis.collect import StatisticsCollector
from dcmnet.analysis.export import Format, write_formats, write_json, write_table
from dcmnet.analysis.figures.save import remove_figures, save_figures
from dcmnet.analysis.grouping import by_charge, by_size
from dcmnet.analysis.history import history_table
from dcmnet.analysis.ladder import ladder_rows, multipole_errors
from dcmnet.analysis.predict import BatchPrediction, predict_batches, result_values
from dcmnet.analysis.statistics import STATISTICS_ATTRIBUTE, EnsembleStatistics, Statistics
from dcmnet.analysis.summary import (
    described,
    distributions,
    molecule_table,
    table_of,
    units,
    worst_molecules,
)
from dcmnet.config import ExperimentConfig
from dcmnet.console.progress import progress_bar
from dcmnet.experiment.directory import Experiment, experiment_config
from dcmnet.experiment.ensemble import load_ensemble, member_names, record_ensemble
from dcmnet.experiment.versions import installed_versions
from dcmnet.model.calibration import calibrated
from dcmnet.model.trained import TrainedModel
from dcmnet.pretrained import is_pretrained
from pipeline import make_loader, open_store, read_schema
from pipeline.loader import BatchDataset
from pipeline.store.base import readable
from pipeline.store.results import ResultsWriter
from pipeline.store.splits import split_store
from store_schema.names import ATOM, AXES, DCM, GRID_POINT, MOLECULE, Variable
from store_schema.problems import ConfigError, TrainingError
from store_schema.results import RESULT_VARIABLES, ResultsSchema

_SPLIT = Variable("split", (MOLECULE,), "str", "none", "split of the molecule in this experiment")

# Grid points per batch at most, so that memory does not grow with the molecules; few enough
# that what is worked out of them stays in the caches.
_POINTS = 64 * 1024
# Splits whose errors say what a spread means; on molecules it learned from a network errs less.
_UNTRAINED = ("valid", "test")
# Molecules that multipoles are fitted to, which takes 16 ms for 20 atoms and 1,000 points.
LADDER_MOLECULES = 200


class Analysis(BaseModel):
    """What an analysis made.

    Attributes:
        results: Path of the group in the store.
        store: The store.
        epoch: Epoch of the checkpoint.
        statistics: The numbers, as in ``best_analysis.json`` and in the group.
        files: Files written to the experiment's folder.
    """

    model_config = ConfigDict(frozen=True)

    results: str
    store: str
    epoch: int
    statistics: Statistics
    files: tuple[Path, ...]


def analyze(
    experiment: str | Path | Sequence[str | Path],
    *,
    store: str | Path | None = None,
    split: str = "test",
    checkpoint: str = "best",
    name: str | None = None,
    overwrite: bool = False,
    formats: Sequence[Format] = (),
    ladder: int = LADDER_MOLECULES,
    figures: bool = True,
    progress: bool = False,
) -> Analysis:
    """Predicts a split of a store and writes the results back into it.

    Molecules are streamed; statistics are gathered on the way. The group appears whole,
    with its statistics, or not at all.

    Args:
        experiment: Directory of the experiment, or a model in the box, of which no files are
            written: its results are in the store. Several experiments are one ensemble: the
            first predicts, and all of them say how sure that is.
        store: Store to analyse; the one it was trained on where left out.
        split: ``train``, ``valid``, ``test`` or ``all``.
        checkpoint: ``best``, ``latest`` or ``epoch_N``.
        name: Name of the results group; the experiment's where left out, with the
            checkpoint behind it unless that is the best.
        overwrite: Whether results of that name are replaced.
        formats: Files to write besides JSON and CSV: ``parquet``, ``pkl``, ``netcdf``.
        ladder: Molecules, evenly spread, to whose ESP multipoles are fitted as a reference.
        figures: Whether they are drawn, which takes seconds.
        progress: Whether a progress bar is shown.

    Raises:
        CheckpointError: There is no such checkpoint, or it does not fit.
        ConfigError: No store is named, and the model has none; or experiments have networks of
            different kinds.
        StoreError: The store is not valid, or has results of that name already.
        TrainingError: The split has no molecules.
    """
    sources = [experiment] if isinstance(experiment, str | Path) else [*experiment]
    first = sources[0]
    config = experiment_config(first)
    path = _store_of(first, config, store)
    model = load_ensemble(sources, checkpoint)
    members = member_names(sources, checkpoint) if len(sources) > 1 else ()
    group = group_name(config, checkpoint, len(members)) if name is None else name
    loader = analysis_loader(path, config, split)
    schema = ResultsSchema(
        experiment=config.name,
        checkpoint=checkpoint,
        epoch=model.epoch,
        split=split,
        n_molecules=loader.n_molecules,
        n_dcm=config.model.n_dcm,
        members=members,
        config=config.model_dump(mode="json"),
        versions=installed_versions(),
    )
    statistics = write_results(
        path,
        group,
        schema,
        model=model,
        loader=loader,
        overwrite=overwrite,
        ladder=ladder,
        progress=progress,
    )
    files: tuple[Path, ...] = ()
    if not is_pretrained(first):
        files = _write_files(
            Experiment(first), group, schema, statistics, path, formats=formats, figures=figures
        )
    measured = statistics.ensemble.calibration if statistics.ensemble else None
    if members and measured and split in _UNTRAINED:
        files += (record_ensemble(sources, checkpoint, model, split, measured),)
    return Analysis(
        results=f"results/{group}",
        store=path,
        epoch=model.epoch,
        statistics=statistics,
        files=files,
    )


analyze_checkpoint = analyze


def _store_of(source: str | Path, config: ExperimentConfig, store: str | Path | None) -> str:
    """Returns the store to analyse, or the one of the training where none is named."""
    path = str(store or config.data.store)
    if not path:
        raise ConfigError.of(
            f"analysis of {source}",
            wrong="no store is named to analyse it on, and a model in the box has none of its own",
            consequence="nothing was analysed",
            remedy="Name one with --store",
        )
    return path


def group_name(config: ExperimentConfig, checkpoint: str, n_members: int = 0) -> str:
    """Returns the name of the group that results have by default.

    Args:
        config: Of the experiment, or the first one of an ensemble.
        checkpoint: Its checkpoint.
        n_members: Experiments of the ensemble; 0 for one experiment.
    """
    name = config.name if checkpoint == "best" else f"{config.name}-{checkpoint}"
    return f"{name}-ensemble-of-{n_members}" if n_members else name


def analysis_loader(store: str, config: ExperimentConfig, split: str) -> BatchDataset:
    """Opens the molecules of a split, in batches that are small enough whatever their size.

    Args:
        store: Store.
        config: Of the experiment.
        split: ``train``, ``valid``, ``test`` or ``all``.

    Raises:
        StoreError: The store is not valid.
        TrainingError: The split has no molecules.
    """
    points = _widths(store)[GRID_POINT]
    loader = make_loader(
        store,
        batch_size=max(1, _POINTS // points) if points else config.training.batch_size,
        split=split,
        cutoff=config.model.cutoff,
        shuffle=False,
        split_fractions=config.data.split_fractions,
    )
    if loader.n_molecules:
        return loader
    raise TrainingError.of(
        f"{store}, split {split!r}",
        wrong="this split has no molecules",
        consequence="there is nothing to analyse",
        remedy="Name another split, or analyse --split all",
    )


def write_results(
    store: str,
    group: str,
    schema: ResultsSchema,
    *,
    model: TrainedModel,
    loader: BatchDataset,
    overwrite: bool = False,
    ladder: int = LADDER_MOLECULES,
    progress: bool = False,
) -> Statistics:
    """Predicts the molecules of a loader and publishes the results, with their statistics.

    Args:
        store: Store they come from and go to.
        group: Name of the results group.
        schema: How they are made.
        model: The trained network.
        loader: Batches, with all their fields.
        overwrite: Whether results of that name are replaced.
        ladder: Molecules to whose ESP multipoles are fitted.
        progress: Whether a progress bar is shown.

    Raises:
        StoreError: The store has results of that name already.
    """
    fractions = ExperimentConfig.model_validate(schema.config).data.split_fractions
    labels = split_store(store, fractions).labels.astype(object)
    sizes = _widths(store)
    variables = [*RESULT_VARIABLES.values(), _SPLIT]
    if not sizes[GRID_POINT]:  # a store without an ESP does not have this dimension
        variables = [v for v in variables if GRID_POINT not in v.dims]
    names = {variable.name for variable in variables}
    expected = np.isin(np.arange(len(labels)), loader.plan.sizes.rows)
    writer = ResultsWriter(
        store,
        group,
        variables,
        {DCM: schema.n_dcm, **AXES},
        schema.model_dump(mode="json"),
        overwrite=overwrite,
        coordinates=("split",),
        expected=expected,
    )
    molecules = open_store(store).to_dataset()
    with readable(molecules):
        collector = _collector(molecules)
    bar = progress_bar(Console(stderr=True) if progress else None, "molecules")
    task = bar.add_task("analysing", total=schema.n_molecules)

    def take(predicted: BatchPrediction) -> None:
        rows, values = result_values(predicted, collector.add(predicted), sizes)
        values["split"] = labels[rows]
        values |= {name: errors[rows] for name, errors in multipoles.result().items()}
        writer.write(rows, {name: values[name] for name in names})
        bar.advance(task, len(rows))

    analysed = np.flatnonzero(expected)
    with writer, bar, ThreadPoolExecutor(1, "dcm-references") as thread:
        multipoles = thread.submit(multipole_errors, molecules, ladder_rows(analysed, ladder))
        named = thread.submit(described, molecules, analysed)
        _for_each(predict_batches(model, loader), take)
        statistics = _statistics(table_of(named.result(), writer.written()), collector, model)
        writer.commit({STATISTICS_ATTRIBUTE: statistics.model_dump(mode="json")})
    return statistics


def _for_each(batches: Iterable[BatchPrediction], take: Callable[[BatchPrediction], None]) -> None:
    """Calls a function with each batch in a thread, while the next one is predicted."""
    with ThreadPoolExecutor(1, thread_name_prefix="dcm-results") as thread:
        taken: Future[None] | None = None
        for batch in batches:
            if taken:
                taken.result()
            taken = thread.submit(take, batch)
        if taken:
            taken.result()


def _widths(store: str) -> dict[str, int]:
    schema = read_schema(store)
    return {ATOM: schema.max_atoms, GRID_POINT: schema.max_grid}


def _collector(molecules: xr.Dataset) -> StatisticsCollector:
    unknown = np.full(molecules.sizes[MOLECULE], np.nan)
    charges = molecules["total_charge"].values if "total_charge" in molecules else unknown
    return StatisticsCollector(by_charge(charges), by_size(molecules["n_atoms"].values))


def _statistics(
    table: pd.DataFrame, collector: StatisticsCollector, model: TrainedModel
) -> Statistics:
    points = collector.points()
    return Statistics(
        n_molecules=len(table),
        n_points=points["all"]["all"]["model"].count if points["all"] else 0,
        units=dict(units(table)),
        molecules=distributions(table),
        points=points,
        monopoles=collector.monopoles(),
        charges=collector.charges(),
        displacements=collector.displacements(),
        worst=worst_molecules(table),
        ensemble=_ensemble(table, collector, model) if model.ensemble else None,
    )


def _ensemble(
    table: pd.DataFrame, collector: StatisticsCollector, model: TrainedModel
) -> EnsembleStatistics:
    spreads = table["esp_uncertainty"].to_numpy() / model.calibration_factor
    return EnsembleStatistics(
        n_members=1 + len(model.ensemble),
        factor=model.calibration_factor,
        calibration=calibrated(table["esp_rmse"].to_numpy(), spreads),
        points=collector.point_calibration(),
    )


def _write_files(
    experiment: Experiment,
    group: str,
    schema: ResultsSchema,
    statistics: Statistics,
    store: str,
    *,
    formats: Sequence[Format],
    figures: bool,
) -> tuple[Path, ...]:
    folder = experiment.analysis_path
    if group != schema.experiment:  # so that what lies there stays that of the best
        folder /= group
    tree = open_store(store)
    table = molecule_table(tree, group)
    history = experiment.history()
    about = schema.model_dump(mode="json", exclude={"config"})
    written = (
        write_json(
            folder / f"{schema.checkpoint}_analysis.json",
            about | statistics.model_dump(mode="json"),
        ),
        write_table(folder / "predictions.csv", table),
        write_table(folder / "training_history.csv", history_table(history)),
        *write_formats(folder, formats, tree, group, table),
    )
    if figures:
        return (*written, *save_figures(folder, tree, group, table, history))
    remove_figures(folder)
    return written
