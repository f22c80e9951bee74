"""Keeps a report up to date while an experiment trains, and serves it if asked."""

from __future__ import annotations

import functools
import http.server
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from dcmnet.experiment import Experiment
from dcmnet.report.page import write_report
from dcmnet.report.story import State, training_state
from store_schema.problems import ConfigError

_LOOPBACK = "127.0.0.1"


def watch(
    experiment: str | Path,
    *,
    out: str | Path | None = None,
    store: str | Path | None = None,
    results: str | None = None,
    every: float = 10.0,
    on_page: Callable[[Path, State, int], None] = lambda *_: None,
    stop: threading.Event | None = None,
) -> Path:
    """Writes the report again whenever an epoch has ended, until training has.

    Args:
        experiment: Directory of the experiment.
        out: The file; ``analysis/report.html`` of the experiment where left out.
        store: Store with the data and the results; the one trained on where left out.
        results: Name of the results group; the experiment's where left out.
        every: Seconds between looks; open pages load themselves again as often.
        on_page: Told of each page: its path, whether training runs, and the epochs in it.
        stop: Ends the watch when set.

    Returns:
        Path of the file, whose last version no longer loads itself again.

    Raises:
        ConfigError: The directory holds no valid experiment, or ``every`` is not positive.
        StoreError: Results that were asked for by name do not exist.
    """
    if every <= 0:
        raise ConfigError.of(
            "report --every",
            expected="a number of seconds above 0",
            received=f"{every:g}",
            consequence="nothing was watched",
            remedy="Leave it out for 10 seconds",
        )
    source, stop = Experiment(experiment), stop or threading.Event()
    written: tuple[State, float] | None = None
    while True:
        # The state before the page: one that ends meanwhile is written once more.
        config, history = source.config(), source.history()
        state = training_state(source, config, history)
        now = (state, _changed(source))
        if now != written:
            path = write_report(
                experiment, out=out, store=store, results=results, refresh_seconds=every
            )
            on_page(path, state, len(history))
            written = now
        if state != "running" or stop.wait(every):
            return path


@contextmanager
def served(page: Path, port: int) -> Iterator[str]:
    """Serves a page, and nothing else, on this machine's loopback address.

    Args:
        page: The file.
        port: The port; 0 for any that is free.

    Yields:
        The page's URL.

    Raises:
        ConfigError: The port cannot be had.
    """
    handler = functools.partial(_OnePage, page=page)
    try:
        server = http.server.ThreadingHTTPServer((_LOOPBACK, port), handler)
    except (OSError, OverflowError) as error:
        raise ConfigError.of(
            f"report --port {port}",
            expected="a free port from 0 to 65535",
            received=str(error),
            consequence="nothing is served",
            remedy="Name another port, or 0 for any that is free",
        ) from error
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://{_LOOPBACK}:{server.server_port}/"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _OnePage(http.server.BaseHTTPRequestHandler):
    """Answers ``/`` with the page, whatever the directory around it holds."""

    def __init__(self, *arguments: object, page: Path) -> None:
        self._page = page
        super().__init__(*arguments)  # type: ignore[arg-type]

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def log_message(self, *_: object) -> None:
        """Keeps requests out of the terminal."""

    def _answer(self, with_body: bool) -> None:
        if self.path.split("?")[0] != "/" or not self._page.is_file():
            self.send_error(http.HTTPStatus.NOT_FOUND)
            return
        body = self._page.read_bytes()
        self.send_response(http.HTTPStatus.OK)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        if with_body:
            self.wfile.write(body)


def _changed(experiment: Experiment) -> float:
    """Returns when an epoch was last written down; 0 before the first."""
    try:
        return os.stat(experiment.metrics_path).st_mtime
    except FileNotFoundError:
        return 0.0
