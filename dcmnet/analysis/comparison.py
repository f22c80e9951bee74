"""Experiments and checkpoints side by side, molecule by molecule."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import pandas as pd
import scipy.stats
import xarray as xr
from jaxtyping import Float

from dcmnet.analysis.run import analyze, group_name
from dcmnet.analysis.statistics import STATISTICS_ATTRIBUTE
from dcmnet.analysis.summary import molecule_table
from dcmnet.config import ExperimentConfig
from dcmnet.experiment.checkpoints import Checkpoints
from dcmnet.experiment.directory import Experiment, experiment_config, load_model
from pipeline import open_store
from store_schema.names import RESULTS_GROUP
from store_schema.problems import ConfigError, StoreError

# What is compared, each the smaller the better.
COMPARED: Final = ("esp_rmse", "esp_max", "monopole_mae", "dipole_error", "quadrupole_error")
_CHECKPOINT = re.compile(r"(?P<experiment>.+)@(?P<checkpoint>best|latest|epoch_\d+)")
_RESAMPLES = 2000
_SEED = 0


class Contender(NamedTuple):
    """One of those that are compared.

    Attributes:
        label: What it is called: its name, with the checkpoint unless that is the best.
        epoch: Epoch of the checkpoint.
        n_dcm: Its charges per atom.
        group: Its results group.
        table: Its molecules (``molecule_table``).
    """

    label: str
    epoch: int
    n_dcm: int
    group: str
    table: pd.DataFrame


@dataclass(frozen=True)
class Comparison:
    """What a comparison came to.

    Attributes:
        store: The store.
        molecules: The molecules compared: ``molecule_id``, ``formula``, ``split``, and the
            ESP RMSE (kcal/mol/e) of each contender under its label.
        summary: A row per contender: ``epoch``, ``n_dcm``, ``molecules``, and mean and median of
            each error (``COMPARED``), such as ``esp_rmse_mean``, over these molecules.
        differences: A row a contender but the first, and error: mean ``difference`` to the
            first over the molecules that have it, ``low`` and ``high`` end of its 95 %
            confidence interval (bootstrap over molecules; NaN for a single one), the
            ``median`` difference, the share of molecules that are ``better``.
        left_out: Molecules that not all contenders analysed, or not in the same split.
    """

    store: str
    molecules: pd.DataFrame
    summary: pd.DataFrame
    differences: pd.DataFrame
    left_out: int


def compare(
    contenders: Sequence[str | Path], *, split: str = "test", store: str | Path | None = None
) -> Comparison:
    """Compares experiments, or checkpoints of them, on the molecules that all analysed.

    What has not been analysed yet is analysed first; results of another split or of an
    earlier training are left alone and others made next to them.

    Args:
        contenders: Two or more directories of experiments; ``DIRECTORY@epoch_50`` names a
            checkpoint. The others are compared with the first.
        split: Molecules to analyse where that has not been done.
        store: Store with the results; the one the experiments were trained on where left
            out.

    Raises:
        ConfigError: Fewer than two are named, one is named twice, or they have different
            stores.
        StoreError: No molecule was analysed by all.
    """
    if len(contenders) < 2 or len({str(c) for c in contenders}) < len(contenders):
        raise ConfigError.of(
            "compare",
            wrong="these are not two or more different experiments or checkpoints: "
            f"{', '.join(map(str, contenders)) or 'none'}",
            consequence="there is nothing to compare",
            remedy="Name them like 'dcmnet compare experiments/a experiments/b@epoch_50'",
        )
    path = str(store or _common_store(contenders))
    found = [_contender(str(c), split, path) for c in contenders]
    return _compared(path, _distinct(found, contenders))


def compare_checkpoints(
    experiment: str | Path, checkpoints: Sequence[str] | None = None, split: str = "valid"
) -> pd.DataFrame:
    """Analyses several checkpoints of an experiment on the same molecules.

    Args:
        experiment: Directory of the experiment.
        checkpoints: Their names; all that exist where left out.
        split: Molecules they are compared on.

    Returns:
        A row a checkpoint: ``epoch``, ``molecules``, mean and median of each error over
        molecules.

    Raises:
        CheckpointError: A checkpoint does not exist.
    """
    source = Experiment(experiment)
    if checkpoints is None:
        with Checkpoints(source.checkpoints_path, read_only=True) as existing:
            checkpoints = existing.names()
    store = source.config().data.store
    rows = {
        name: _summary_row(_contender(f"{experiment}@{name}", split, store)) for name in checkpoints
    }
    return _frame(rows).rename_axis("checkpoint")


def paired_difference(differences: Float[np.ndarray, " molecule"]) -> dict[str, float]:
    """Returns mean and median of paired differences, and how sure the mean is.

    The confidence interval is that of percentiles of the bootstrap over molecules (Efron,
    Ann. Stat. 7 (1979) 1), 2000 samples with a fixed seed, 95 %.

    Args:
        differences: Of each molecule; at least one.
    """
    low = high = np.nan
    if differences.size > 1:
        low, high = scipy.stats.bootstrap(
            (differences,),
            np.mean,
            n_resamples=_RESAMPLES,
            batch=max(1, 2**22 // differences.size),
            method="percentile",
            rng=np.random.default_rng(_SEED),
        ).confidence_interval
    return {
        "molecules": differences.size,
        "difference": float(differences.mean()),
        "low": float(low),
        "high": float(high),
        "median": float(np.median(differences)),
        "better": float((differences < 0).mean()),
    }


def _contender(reference: str, split: str, store: str) -> Contender:
    """Returns the molecules of a contender, analysed now where that has not been done."""
    named = _CHECKPOINT.fullmatch(reference)
    directory, checkpoint = named.groups() if named else (reference, "best")
    config = experiment_config(directory)
    epoch = load_model(directory, checkpoint).epoch
    usual = group_name(config, checkpoint)
    own = f"{usual}-{split}"  # where the usual one is of something else
    tree = open_store(store)
    current = [name for name in (usual, own) if _is_current(tree, name, config, epoch, split)]
    group = current[0] if current else own if _exists(tree, usual) else usual
    if not current:
        analyze(
            directory,
            store=store,
            split=split,
            checkpoint=checkpoint,
            name=group,
            overwrite=group == own,
            figures=False,
        )
        tree = open_store(store)
    table = molecule_table(tree, group)
    if split != "all":
        table = table[table["split"] == split]
    label = config.name if checkpoint == "best" else f"{config.name}@{checkpoint}"
    return Contender(label, epoch, config.model.n_dcm, group, table)


def _exists(tree: xr.DataTree, group: str) -> bool:
    return RESULTS_GROUP in tree.children and group in tree[RESULTS_GROUP].children


def _is_current(
    tree: xr.DataTree, group: str, config: ExperimentConfig, epoch: int, split: str
) -> bool:
    """Tells whether a group holds a split's molecules, of this configuration and epoch."""
    if not _exists(tree, group):
        return False
    attributes = tree[f"{RESULTS_GROUP}/{group}"].attrs
    return (
        attributes.get("split") in (split, "all")
        and attributes.get("epoch") == epoch
        and attributes.get("config") == config.model_dump(mode="json")
        and STATISTICS_ATTRIBUTE in attributes
    )


def _common_store(contenders: Sequence[str | Path]) -> str:
    stores = {}
    for contender in map(str, contenders):
        named = _CHECKPOINT.fullmatch(contender)
        own = experiment_config(named["experiment"] if named else contender).data.store
        if own:  # a model in the box has none
            stores[contender] = own
    if not stores:
        raise ConfigError.of(
            "compare",
            wrong="no store is named to compare models in the box on",
            consequence="there is nothing to compare",
            remedy="Name one with --store",
        )
    if len({str(Path(store).resolve()) for store in stores.values()}) > 1:
        raise ConfigError.of(
            "compare",
            wrong=(
                "the experiments were trained on different stores: "
                + "; ".join(f"{name} on {store}" for name, store in stores.items())
            ),
            consequence="their molecules are not the same",
            remedy="Name the store to compare them on with --store",
        )
    return next(iter(stores.values()))


def _distinct(found: list[Contender], references: Sequence[str | Path]) -> list[Contender]:
    """Calls contenders by their paths where their names are the same."""
    if len({contender.label for contender in found}) == len(found):
        return found
    return [c._replace(label=str(r)) for c, r in zip(found, references, strict=True)]


def _compared(store: str, found: list[Contender]) -> Comparison:
    first, *others = found
    rows = first.table.index[first.table["esp_rmse"].notna()]
    for other in others:
        labels = other.table["split"].reindex(rows)
        rows = rows[labels.to_numpy() == first.table["split"].loc[rows].to_numpy()]
    everything = {row for contender in found for row in contender.table.index}
    if rows.empty:
        raise StoreError.of(
            f"{store}, {', '.join(f'{RESULTS_GROUP}/{contender.group}' for contender in found)}",
            wrong="no molecule was analysed by all of them in the same split",
            consequence="there is nothing to compare",
            remedy="Compare experiments with the same split fractions, or --split all",
        )
    same = [c._replace(table=c.table.loc[rows]) for c in found]
    summary = {c.label: _summary_row(c) for c in same}
    differences = {
        (contender.label, name): paired_difference(values)
        for contender in same[1:]
        for name in COMPARED
        if (values := _differences(contender.table, same[0].table, name)).size
    }
    return Comparison(
        store=store,
        molecules=same[0]
        .table[["molecule_id", "formula", "split"]]
        .assign(**{c.label: c.table["esp_rmse"] for c in same}),
        summary=_frame(summary).rename_axis("experiment"),
        differences=_frame(differences).rename_axis(["experiment", "error"]),
        left_out=len(everything) - len(rows),
    )


def _differences(
    table: pd.DataFrame, first: pd.DataFrame, name: str
) -> Float[np.ndarray, " molecule"]:
    if name not in table or name not in first:
        return np.zeros(0)
    difference = (table[name] - first[name]).to_numpy(np.float64)
    return np.asarray(difference[np.isfinite(difference)])


def _frame(rows: Mapping[Any, Mapping[str, float]]) -> pd.DataFrame:
    index = pd.Index(list(rows))  # pairs become two levels
    return pd.DataFrame(list(rows.values()), index=index)


def _summary_row(contender: Contender) -> dict[str, float]:
    table = contender.table
    numbers = {
        f"{name}_{statistic}": float(getattr(table[name], statistic)())
        for name in COMPARED
        if name in table and table[name].notna().any()
        for statistic in ("mean", "median")
    }
    counts = {"epoch": contender.epoch, "n_dcm": contender.n_dcm, "molecules": len(table)}
    return {**counts, **numbers}
