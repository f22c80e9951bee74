"""What a sweep came to: a table of its trials, and the best one's configuration."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from dcmnet.experiment.directory import Experiment
from dcmnet.sweep.space import SweepConfig
from dcmnet.sweep.study import EXPERIMENT, PROBLEM, slots

BEST_NAME = "best.json"
TABLE_NAME = "trials.csv"
_LABELS = {
    TrialState.COMPLETE: "complete",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
    TrialState.RUNNING: "running",
    TrialState.WAITING: "waiting",
}
_COLOURS = {"complete": "green", "failed": "red", "running": "cyan"}
_COLUMNS = ("trial", "state", "best", "epoch", "epochs", "experiment", "problem")
_SHOWN = 15


@dataclass(frozen=True)
class SweepOutcome:
    """What a sweep came to.

    Attributes:
        folder: The folder of the sweep.
        trials: One row per trial, best first: ``trial`` (its number), ``state``, ``best`` (lowest
            metric of an epoch), ``epoch`` (of that), ``epochs`` (trained), ``experiment``
            and ``problem``, and a column for each field searched.
        best: Directory of the best experiment; None where no trial is complete.
    """

    folder: Path
    trials: pd.DataFrame
    best: Path | None


def outcome_of(study: Study, space: SweepConfig) -> SweepOutcome:
    """Reads what a sweep has come to so far, and writes it into its folder.

    ``trials.csv`` is the table; ``best.json`` the configuration of the best trial, for
    ``dcmnet train --config``.
    """
    rows = [_row(number, trial, space) for number, trial in enumerate(slots(study))]
    columns = [*_COLUMNS[:-2], *space.search, *_COLUMNS[-2:]]
    table = pd.DataFrame(rows, columns=columns)
    table["behind"] = table["state"] != _LABELS[TrialState.COMPLETE]
    table = table.sort_values(["behind", "best", "trial"], ignore_index=True)
    is_best = ~table.pop("behind") & table["best"].notna()
    table.to_csv(space.folder / TABLE_NAME, index=False)
    best = None
    if is_best.any():
        best = space.folder / str(table.loc[0, "experiment"])
        config = Experiment(best).config()
        config.with_fields({"name": f"{space.name}-best", "out": space.out}).save(
            space.folder / BEST_NAME
        )
    return SweepOutcome(space.folder, table, best)


def print_outcome(outcome: SweepOutcome, space: SweepConfig, console: Console) -> None:
    """Prints the best trials, and what to do next."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("trial", justify="right")
    table.add_column("state")
    table.add_column(space.metric or "best", justify="right")
    table.add_column("epoch", justify="right")
    for name in space.search:
        table.add_column(name.rpartition(".")[2], justify="right")
    for row in outcome.trials.head(_SHOWN).to_dict("records"):
        table.add_row(
            str(row["trial"]),
            _coloured(row["state"]),
            _number(row["best"]),
            _of_epochs(row),
            *(escape(_value(row[name])) for name in space.search),
        )
    console.print(table)
    counts = outcome.trials["state"].value_counts()
    console.print(", ".join(f"{count} {state}" for state, count in counts.items()), highlight=False)
    for row in outcome.trials[outcome.trials["problem"] != ""].to_dict("records"):
        console.print(
            f"[red]Trial {row['trial']} failed:[/] {escape(row['problem'])}", soft_wrap=True
        )
    console.print(escape(f"table, figures and study: {outcome.folder}"), soft_wrap=True)
    if outcome.best is not None:
        again = f"dcmnet train --config {outcome.folder / BEST_NAME} --name {space.name}-best"
        console.print(
            escape(f"best experiment: {outcome.best}; train it again or longer: {again}"),
            soft_wrap=True,
        )


def print_trial(number: int, trial: FrozenTrial, console: Console) -> None:
    """Prints a line about a trial that has ended."""
    label = _LABELS[trial.state]
    values = ", ".join(f"{name} {_value(value)}" for name, value in trial.params.items())
    reached = _number(min(trial.intermediate_values.values(), default=float("nan")))
    console.print(
        f"trial {number} {_coloured(label)} {reached}  [dim]{escape(values)}[/]",
        highlight=False,
        soft_wrap=True,
    )


def _row(number: int, trial: FrozenTrial, space: SweepConfig) -> dict[str, object]:
    values = trial.intermediate_values
    # Of two that are equal the first, as training has it.
    epoch = min(values, key=lambda step: (values[step], step)) if values else None
    return {
        "trial": number,
        "state": _LABELS[trial.state],
        "best": values[epoch] if epoch is not None else float("nan"),
        "epoch": epoch or 0,
        "epochs": max(values, default=0),
        **{name: trial.params.get(name) for name in space.search},
        "experiment": trial.user_attrs.get(EXPERIMENT, ""),
        "problem": trial.user_attrs.get(PROBLEM, ""),
    }


def _coloured(state: str) -> str:
    colour = _COLOURS.get(state, "yellow")
    return f"[{colour}]{state}[/]"


def _of_epochs(row: dict[str, object]) -> str:
    return f"{row['epoch']}/{row['epochs']}" if row["epochs"] else ""


def _number(value: object) -> str:
    return "" if pd.isna(value) else f"{value:.4g}"


def _value(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
