"""What a report shows of an experiment: read once, from its directory and its store."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import jax
import pandas as pd
import xarray as xr
from pydantic import ValidationError

from dcmnet.analysis.statistics import Statistics, load_statistics
from dcmnet.analysis.summary import molecule_table
from dcmnet.config import ExperimentConfig, ModelConfig
from dcmnet.config_fields import parse
from dcmnet.experiment.directory import Experiment
from dcmnet.experiment.metrics import EpochRecord
from dcmnet.experiment.state import Progress
from dcmnet.model.initialization import parameter_shapes
from dcmnet.training.loop import is_over
from pipeline import Store, open_store
from pipeline.files import exclusive
from pipeline.inspection.inspect import StoreInspection, inspect_store
from pipeline.store.splits import split_store
from store_schema.names import RESULTS_GROUP
from store_schema.problems import ConfigError, DcmError, StoreError
from store_schema.results import ResultsSchema

State = Literal["waiting", "running", "finished", "stopped"]


@dataclass(frozen=True)
class StoreContent:
    """The data of an experiment.

    Attributes:
        inspection: What the store holds.
        splits: Molecules of each split, with this experiment's fractions.
        fingerprint: SHA-256 of the store's schema, which names every source file with
            its own; analyses do not change it.
    """

    inspection: StoreInspection
    splits: dict[str, int]
    fingerprint: str


@dataclass(frozen=True)
class ResultsContent:
    """The results of an analysis.

    Attributes:
        name: Name of the group in the store.
        schema: How they were made.
        tree: The store, opened lazily.
        table: A row for each analysed molecule (``molecule_table``).
        statistics: What they come to.
        is_current: Whether they were made with the experiment's configuration.
    """

    name: str
    schema: ResultsSchema
    tree: xr.DataTree
    table: pd.DataFrame
    statistics: Statistics
    is_current: bool


@dataclass(frozen=True)
class ReportContent:
    """All that a report shows.

    Attributes:
        experiment: Where the experiment lies.
        config: Its configuration.
        history: Its epochs so far.
        state: Whether it trains, has trained to the end, or ended before.
        n_parameters: Parameters of the network.
        store_path: The store.
        store: Its contents, None where it cannot be read.
        results: The results, None where there are none.
        problems: Why something is not shown, in words.
    """

    experiment: Experiment
    config: ExperimentConfig
    history: list[EpochRecord]
    state: State
    n_parameters: int
    store_path: str
    store: StoreContent | None
    results: ResultsContent | None
    problems: tuple[str, ...]


def read_content(
    directory: str | Path, *, store: str | Path | None = None, results: str | None = None
) -> ReportContent:
    """Reads what there is to show of an experiment.

    Args:
        directory: The experiment.
        store: Store with its data and results; the one it was trained on where left out.
        results: Name of the results group; the experiment's where left out.

    Raises:
        ConfigError: The directory holds no valid experiment.
        StoreError: The store or the results that were asked for by name do not exist.
    """
    experiment = Experiment(directory)
    config = experiment.config()
    path = str(store or config.data.store)
    problems: list[str] = []
    data, found = None, None
    try:
        data = _store_content(path, config.data.split_fractions, Store.at(path).state())
        found = _results_content(path, results, config)
    except DcmError as error:
        if results is not None or (store is not None and data is None):  # asked for by name
            raise
        problems.append(str(error.problems[0]))
    history = experiment.history()
    return ReportContent(
        experiment=experiment,
        config=config,
        history=history,
        state=training_state(experiment, config, history),
        n_parameters=_count_parameters(config.model),
        store_path=path,
        store=data,
        results=found,
        problems=tuple(problems),
    )


def training_state(
    experiment: Experiment, config: ExperimentConfig, history: list[EpochRecord]
) -> State:
    """Tells whether an experiment trains; a run holds the lock of its directory."""
    try:
        with exclusive(experiment.directory, wait=False):
            pass
    except StoreError:
        return "running"
    if not history:
        return "waiting"
    progress = Progress(
        epoch=history[-1].epoch,
        best_epoch=max((record.epoch for record in history if record.best), default=0),
        seconds=sum(record.seconds for record in history),
    )
    return "finished" if is_over(config.training, progress) else "stopped"


@lru_cache(maxsize=1)  # a page that is written again and again looks at the store once
def _store_content(store: str, fractions: tuple[float, float], _state: str) -> StoreContent:
    inspection = inspect_store(store)
    schema = inspection.store_schema
    return StoreContent(
        inspection=inspection,
        splits=split_store(store, fractions).counts if schema.n_molecules else {},
        fingerprint=hashlib.sha256(schema.model_dump_json().encode()).hexdigest(),
    )


def _results_content(
    store: str, name: str | None, config: ExperimentConfig
) -> ResultsContent | None:
    tree = open_store(store)
    group = name or config.name
    if RESULTS_GROUP not in tree.children or group not in tree[RESULTS_GROUP].children:
        if name is None:
            return None
        raise StoreError.of(
            f"{store}, results/{group}",
            wrong="there are no results of this name",
            consequence="there is nothing to report on",
            remedy="Run 'dcmnet analyze', or name results that 'dcmnet inspect' lists",
        )
    attributes = tree[RESULTS_GROUP][group].attrs
    try:
        schema = ResultsSchema.model_validate(
            {key: attributes[key] for key in ResultsSchema.model_fields if key in attributes}
        )
    except ValidationError as error:
        raise StoreError.of(
            f"{store}, results/{group}",
            wrong=f"'dcmnet analyze' did not write these results: {error.errors()[0]['msg']}",
            consequence="they are left out of the report",
            remedy="Analyse again with --overwrite",
        ) from error
    return ResultsContent(
        name=group,
        schema=schema,
        tree=tree,
        table=molecule_table(tree, group),
        statistics=load_statistics(tree, group),
        is_current=_is_config(schema.config, config),
    )


def _is_config(found: Mapping[str, Any], config: ExperimentConfig) -> bool:
    try:  # with the defaults of fields that are younger than the results
        return parse(ExperimentConfig, found) == config
    except ConfigError:
        return False


@lru_cache(maxsize=1)
def _count_parameters(model: ModelConfig) -> int:
    shapes = parameter_shapes(model)
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(shapes))
