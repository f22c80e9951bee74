"""A sweep from its space to its figures: begun or resumed, in one process or several."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from rich.console import Console

from dcmnet.sweep.figures import save_figures
from dcmnet.sweep.outcome import SweepOutcome, outcome_of, print_outcome
from dcmnet.sweep.space import SweepConfig, load_space, parse_space
from dcmnet.sweep.study import open_study
from dcmnet.sweep.worker import SPACE_NAME, work
from dcmnet.training.stopping import STOPPED, stop_on_sigterm
from pipeline import open_store
from pipeline.files import exclusive, write_text
from store_schema.problems import ConfigError, TrainingError

_LOOK_AGAIN_SECONDS = 0.2


def run_sweep(
    space: str | Path | Mapping[str, object],
    store: str | Path,
    *,
    workers: int = 1,
    console: Console | None = None,
    **fields: object,
) -> SweepOutcome:
    """Trains experiments with values that a study chooses, the worse ones not to their end.

    Called again, it resumes where it was stopped or killed: trials that were under way are
    resumed. Several calls, in several processes or on several machines with the same
    folder, share the trials; each returns when all have ended.

    Args:
        space: What to search: a JSON file, or the fields of ``SweepConfig``.
        store: The store to train on.
        workers: Processes.
        console: Where one line per trial and the table go; standard output by default.
        **fields: Fields of ``SweepConfig`` that outrank those of ``space``, such as
            ``trials=50`` or ``out="experiments"``.

    Returns:
        The table of trials and the best experiment; both are in the folder too.

    Raises:
        ConfigError: The space is not valid, or a sweep of this name with another space
            exists.
        StoreError: The store is missing or not valid.
        TrainingError: A process of the sweep ended with an error, or no trial succeeded.
        SystemExit: SIGTERM asked to stop; everything is saved.
    """
    console = console or Console()
    found = load_space(space) if isinstance(space, str | Path) else parse_space(space)
    address = str(store) if "://" in str(store) else os.path.abspath(store)
    chosen = parse_space({**found.model_dump(), **fields, "store": address})
    open_store(address)  # refused once, not by each trial
    _begin(chosen)
    study = open_study(chosen)
    try:
        if workers > 1:
            _run_workers(chosen, workers)
        else:
            work(chosen, console)
    finally:
        outcome = outcome_of(study, chosen)
        save_figures(study, chosen)
        print_outcome(outcome, chosen, console)
    if outcome.best is None:
        raise TrainingError.of(
            f"sweep {chosen.name}",
            wrong=f"none of {len(outcome.trials)} trials trained to its end",
            consequence="there is no best experiment",
            remedy="See what trials.csv in its folder says of each",
        )
    return outcome


def _begin(space: SweepConfig) -> None:
    """Writes the space down, or sees that the sweep which is there has the same one.

    Raises:
        ConfigError: It has another one.
    """
    space.folder.mkdir(parents=True, exist_ok=True)
    path = space.folder / SPACE_NAME
    with exclusive(space.folder, wait=True):
        if path.exists():
            before = load_space(path)
            _refuse_change(before, space)
        elif (space.folder / "config.json").exists():
            raise _other_space(space, "there is an experiment of this name already")
        write_text(path, space.model_dump_json(indent=2) + "\n")


def _refuse_change(before: SweepConfig, space: SweepConfig) -> None:
    # More trials, or where the folder is seen from, make no other sweep of it.
    free = {"trials", "out", "heartbeat_seconds"}
    old, new = (one.model_dump(mode="json", exclude=free) for one in (before, space))
    changed = [name for name in new if new[name] != old[name]]
    if changed:
        raise _other_space(space, f"this sweep has another {', '.join(changed)}")


def _other_space(space: SweepConfig, wrong: str) -> ConfigError:
    return ConfigError.of(
        str(space.folder),
        wrong=wrong,
        consequence="nothing was started, nothing overwritten",
        remedy="Choose another name for the sweep, or give the space as it was",
    )


def _run_workers(space: SweepConfig, workers: int) -> None:
    """Runs processes until all have ended; passes a request to stop on to them.

    Raises:
        TrainingError: One has ended with an error.
        SystemExit: SIGTERM asked to stop.
    """
    command = [sys.executable, "-m", "dcmnet.sweep", str(space.folder)]
    with stop_on_sigterm() as stop:
        processes = [subprocess.Popen(command) for _ in range(workers)]
        try:
            is_told = False
            while any(process.poll() is None for process in processes):
                if stop() and not is_told:
                    is_told = True
                    for process in processes:
                        process.terminate()
                time.sleep(_LOOK_AGAIN_SECONDS)
        finally:
            # Ctrl-C reaches them too; each puts its trial back before it ends.
            codes = [process.wait() for process in processes]
    if stop():
        sys.exit(STOPPED)
    if any(codes):
        raise TrainingError.of(
            f"sweep {space.name}",
            wrong=f"processes ended with trials left: exit codes {', '.join(map(str, codes))}",
            consequence="the trials that ended are kept; others took up what these left",
            remedy="See the messages above, and give the same command to resume",
        )
