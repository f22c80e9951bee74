"""Serves one page, and how its run stands, on this machine's loopback address."""

from __future__ import annotations

import dataclasses
import functools
import http.server
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from dcmnet.report.live import Status
from store_schema.problems import ConfigError

_LOOPBACK: Final = "127.0.0.1"
# By these names a browser reaches it, also through a tunnel. A page from elsewhere whose
# name was pointed at this machine comes with its own.
_HOSTS: Final = {_LOOPBACK, "localhost"}


@contextmanager
def served(page: Path, port: int, status: Callable[[], Status | None]) -> Iterator[str]:
    """Serves a page at ``/``, its status at ``/live``, and nothing else.

    Args:
        page: The file.
        port: The port; 0 for any that is free.
        status: Returns how the run stands; None while there is no page yet.

    Yields:
        The page's URL.

    Raises:
        ConfigError: The port cannot be had.
    """
    handler = functools.partial(_Handler, page=page, status=status)
    try:
        server = http.server.ThreadingHTTPServer((_LOOPBACK, port), handler)
    except (OSError, OverflowError) as error:
        raise ConfigError.of(
            f"report --port {port}",
            wrong=f"this is no free port from 0 to 65535: {error}",
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


class _Handler(http.server.BaseHTTPRequestHandler):
    """Answers for the page and its status, whatever the directory around it holds."""

    def __init__(self, *arguments: object, page: Path, status: Callable[[], Status | None]) -> None:
        self._page, self._status = page, status
        super().__init__(*arguments)  # type: ignore[arg-type]

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def log_message(self, *_: object) -> None:
        """Keeps requests out of the terminal."""

    def _answer(self, with_body: bool) -> None:
        found = self._find(self.path.split("?")[0])
        if found is None:
            self.send_error(http.HTTPStatus.NOT_FOUND)
            return
        kind, body = found
        self.send_response(http.HTTPStatus.OK)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        if with_body:
            self.wfile.write(body)

    def _find(self, path: str) -> tuple[str, bytes] | None:
        """Returns the kind and the content of what is asked for; None for anything else."""
        status = self._status()
        if status is None or self.headers.get("Host", "").split(":")[0] not in _HOSTS:
            return None
        if path == "/":
            return "text/html", self._page.read_bytes()
        if path == "/live":
            return "application/json", json.dumps(dataclasses.asdict(status)).encode()
        return None
