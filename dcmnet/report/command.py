"""``dcmnet report``: writes the page once, or as long as training runs."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from dcmnet.report.content import State
from dcmnet.report.page import page_path, write_report
from dcmnet.report.serving import served
from dcmnet.report.watch import Live
from dcmnet.report.watch import watch as keep_watch
from store_schema.problems import ConfigError


def run(
    experiment: Path,
    out: Path | None,
    store: str | None,
    results: str | None,
    *,
    watch: bool,
    every: float,
    port: int | None,
    console: Console,
) -> None:
    """Writes the report of an experiment and prints where it is.

    Args:
        experiment: Directory of the experiment.
        out: The file; ``analysis/report.html`` of the experiment where left out.
        store: Store with the results; the one trained on where left out.
        results: Name of the results group; the experiment's where left out.
        watch: Whether it is written again after each epoch until training ends, or, where
            it is served, until Ctrl-C.
        every: Seconds between looks.
        port: Port of the loopback address to serve it on; None serves nothing.
        console: Where it is printed.

    Raises:
        ConfigError: The experiment is not valid, or ``port`` was given without ``watch``.
        StoreError: A store or results that were asked for by name do not exist.
    """
    if not watch:
        if port is not None:
            raise ConfigError.of(
                "report --port",
                wrong="a port is named without --watch",
                consequence="nothing was served: a page that does not change needs no server",
                remedy="Open the file in a browser, or add --watch",
            )
        path = write_report(experiment, out=out, store=store, results=results)
        console.print(escape(str(path)), soft_wrap=True)
        return
    _follow(experiment, out, store, results, every=every, port=port, console=console)


def _follow(
    experiment: Path,
    out: Path | None,
    store: str | None,
    results: str | None,
    *,
    every: float,
    port: int | None,
    console: Console,
) -> None:
    printed: list[State] = []
    live = Live() if port is not None else None
    url = ""

    def on_page(path: Path, state: State, epochs: int) -> None:
        if url and not printed:  # from here on there is something to see
            console.print(f"Served at {url} until Ctrl-C.", soft_wrap=True)
        if printed[-1:] != [state]:
            console.print(escape(f"{path} · {state} · {epochs} epochs"), soft_wrap=True)
            printed.append(state)

    with ExitStack() as stack:
        if port is not None and live is not None:
            page = page_path(experiment, out)
            url = stack.enter_context(served(page, port, lambda: live.status))
        try:
            keep_watch(
                experiment,
                out=out,
                store=store,
                results=results,
                every=every,
                on_page=on_page,
                live=live,
            )
        except KeyboardInterrupt:
            console.print("Stopped watching; the page stays as it is.")
