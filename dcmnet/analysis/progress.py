"""A bar for work on molecules: how many, how fast, how long still."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TimeRemainingColumn,
)
from rich.text import Text


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:,.0f} molecules/s")


@contextmanager
def molecules_bar(title: str, total: int, shown: bool) -> Iterator[Callable[[int], None]]:
    """Shows a bar on standard error while the block runs.

    Args:
        title: What is done.
        total: Molecules there are.
        shown: False shows nothing.

    Yields:
        A function to call with the number of molecules done since the last call.
    """
    bar = Progress(
        "{task.description}",
        BarColumn(),
        MofNCompleteColumn(),
        _Rate(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        disable=not shown,
    )
    with bar:
        task = bar.add_task(title, total=total)
        yield lambda done: bar.advance(task, done)
