"""Keeps a report up to date while an experiment trains, and longer where it is served."""

from __future__ import annotations

import dataclasses
import functools
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

from dcmnet.experiment.directory import Experiment
from dcmnet.report.content import State, training_state
from dcmnet.report.live import Status, training_status
from dcmnet.report.page import write_report
from store_schema.problems import ConfigError


class Live:
    """How a run stands, handed from the watcher to the server of its page.

    Attributes:
        status: The status; None before the first page.
    """

    def __init__(self) -> None:
        self.status: Status | None = None


def watch(
    experiment: str | Path,
    *,
    out: str | Path | None = None,
    store: str | Path | None = None,
    results: str | None = None,
    every: float = 5.0,
    on_page: Callable[[Path, State, int], None] = lambda *_: None,
    stop: threading.Event | None = None,
    live: Live | None = None,
) -> Path:
    """Writes the report again whenever an epoch or an analysis has ended.

    It runs until training has ended; where the page is served, until it is stopped.

    Args:
        experiment: Directory of the experiment.
        out: The file; ``analysis/report.html`` of the experiment where left out.
        store: Store with the data and the results; the one trained on where left out.
        results: Name of the results group; the experiment's where left out.
        every: Seconds between looks; open pages look as often.
        on_page: Told of each page: its path, whether training runs, and the epochs in it.
        stop: Ends the watch when set.
        live: Told how the run stands, for a page that is served.

    Returns:
        Path of the file, whose last version stays as it is.

    Raises:
        ConfigError: The directory holds no valid experiment, or ``every`` is not positive.
        StoreError: Results that were asked for by name do not exist.
    """
    if every <= 0:
        raise ConfigError.of(
            "report --every",
            wrong=f"{every:g} is not a number of seconds above 0",
            consequence="nothing was watched",
            remedy="Leave it out for 5 seconds",
        )
    source, stop = Experiment(experiment), stop or threading.Event()
    write = functools.partial(write_report, experiment, out=out, store=store, results=results)
    written: tuple[State, float, float] | None = None
    version = 0
    try:
        while True:
            # The state before the page: one that ends meanwhile is written once more.
            config, history = source.config(), source.history()
            state, changed = training_state(source, config, history), _changed(source)
            now = (state, changed, _analysed(source))
            if now != written:
                path = write(refresh_seconds=every, live=live is not None)
                on_page(path, state, len(history))
                written, version = now, version + 1
            if live is not None:
                silent = max(0.0, time.time() - changed)
                status = training_status(state, config.training, history, silent)
                live.status = dataclasses.replace(status, version=version)
            if (live is None and state != "running") or stop.wait(every):
                return path
    finally:
        if live is not None and written is not None:
            write()


def _changed(experiment: Experiment) -> float:
    """Returns when an epoch was last written down; 0 before the first."""
    try:
        return os.stat(experiment.metrics_path).st_mtime
    except FileNotFoundError:
        return 0.0


def _analysed(experiment: Experiment) -> float:
    """Returns when an analysis last wrote what it came to; 0 before the first."""
    found = experiment.analysis_path.glob("*.json")
    return max((path.stat().st_mtime for path in found), default=0.0)
