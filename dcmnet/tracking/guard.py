"""A tracker may fail, with the network or a disk; the run that it follows may not."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from contextlib import suppress

from rich.console import Console
from rich.markup import escape
from typing_extensions import override

from dcmnet.config import ExperimentConfig
from dcmnet.experiment.metrics import EpochRecord
from dcmnet.model import Parameters
from dcmnet.model.observables import Observables
from dcmnet.training.followers import Ending, Follower
from pipeline.loader import MoleculeBatch
from store_schema.problems import ConfigError, DcmError


class Guarded(Follower):
    """Stands between a run and its tracker, whose errors it turns into one warning.

    After an error the tracker is left alone until the run ends; it is then called once more
    of the epochs that it missed.
    """

    def __init__(self, name: str, tracker: Follower, console: Console) -> None:
        """Takes the tracker, how messages name it, and where its warning goes."""
        self._name, self._tracker, self._console = name, tracker, console
        self._has_failed = False
        self._missed: list[EpochRecord] = []

    @override
    def on_start(self, config: ExperimentConfig, history: Sequence[EpochRecord]) -> None:
        if history:  # a run that resumes by itself at night is not held up
            self._attempt(lambda: self._tracker.on_start(config, history))
            return
        try:
            self._tracker.on_start(config, history)
        except DcmError:
            raise
        except Exception as error:
            raise ConfigError.of(
                f"--track {self._name}",
                wrong=f"the tracker cannot be reached: {in_public(error)}",
                consequence="nothing was trained",
                remedy=f"Fix it and continue with 'dcmnet resume', or train without {self._name}",
            ) from error

    @override
    def on_epoch(self, record: EpochRecord) -> None:
        if self._has_failed or not self._attempt(lambda: self._tracker.on_epoch(record)):
            self._missed.append(record)

    @override
    def on_summary(
        self, epoch: int, params: Parameters, predicted: Observables, batch: MoleculeBatch
    ) -> None:
        if not self._has_failed:
            self._attempt(lambda: self._tracker.on_summary(epoch, params, predicted, batch))

    @override
    def on_end(self, ending: Ending) -> None:
        def call() -> None:
            for record in self._missed:
                self._tracker.on_epoch(record)
            self._tracker.on_end(ending)

        if not self._has_failed:
            self._attempt(call)
            return
        with suppress(Exception):  # the user knows that the tracker failed
            call()

    def _attempt(self, call: Callable[[], None]) -> bool:
        try:
            call()
        except Exception as error:
            self._has_failed = True
            self._console.print(
                f"[yellow]Warning:[/] {self._name} no longer follows this run "
                f"({escape(in_public(error))}); training continues, metrics.jsonl has everything",
                highlight=False,
                soft_wrap=True,
            )
        return not self._has_failed


def in_public(text: object) -> str:
    """Returns a text, or what an error says in its first line, without credentials of URLs."""
    if isinstance(text, BaseException):
        first = next(iter(str(text).splitlines()), "")[:300]
        text = f"{type(text).__name__}: {first}"
    without_user = re.sub(r"(?<=://)[^/\s@]*@", "", str(text))
    return re.sub(r"(\w+://[^\s?#]*)[?#]\S*", r"\1", without_user)
