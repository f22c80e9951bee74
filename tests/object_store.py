"""Servers of objects on loopback, and a proxy before them that fails as networks do."""

import re
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import closing, contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import pytest

from pipeline.store.location import location

SECRET = "verysecret"

# Begins a program that dies at a request that writes, which its third argument counts.
DYING = """
import os, signal, sys
import obstore
put, count = obstore.put, 0
def dying(*arguments, **options):
    global count
    count += 1
    if count == int(sys.argv[3]):
        os.kill(os.getpid(), signal.SIGKILL)
    return put(*arguments, **options)
obstore.put = dying
"""


def environment(address):
    """What reaches an S3 server: everything that a user sets."""
    return {
        "AWS_ENDPOINT_URL": address,
        "AWS_ALLOW_HTTP": "true",
        "AWS_ACCESS_KEY_ID": "someone",
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_REGION": "us-east-1",
    }


@dataclass(frozen=True)
class Server:
    """A server of objects on loopback, which has a bucket of the name ``bucket``."""

    scheme: str
    address: str
    environment: Callable[[str], dict[str, str]]

    def reach(self, monkeypatch, address=None):
        """Sets the environment that reaches it, or it through a proxy."""
        for name, value in self.environment(address or self.address).items():
            monkeypatch.setenv(name, value)


def free_port():
    """Returns a port that nothing listens on."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return listening.getsockname()[1]


def answers(address):
    """Waits until something answers at an address."""
    for _ in range(300):
        try:
            urllib.request.urlopen(address, timeout=5).close()
            return
        except urllib.error.HTTPError:
            return
        except OSError:
            time.sleep(0.1)


@contextmanager
def s3_server():
    """Runs moto's server in a process of its own; gives its address."""
    pytest.importorskip("moto.server")
    port = free_port()
    code = "import sys; from moto.server import main; main(sys.argv[1:])"
    arguments = [sys.executable, "-c", code, "-H", "127.0.0.1", "-p", str(port)]
    with subprocess.Popen(
        arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as server:
        try:
            address = f"http://127.0.0.1:{port}"
            answers(f"{address}/moto-api/")
            urllib.request.urlopen(
                urllib.request.Request(f"{address}/bucket", method="PUT"), timeout=10
            ).close()
            yield Server("s3", address, environment)
        finally:
            server.kill()


class Answer(NamedTuple):
    """What a server answers to a request."""

    status: int
    headers: list[tuple[str, str]]
    data: bytes


def ask(address, method, path, body=b"", headers=()):
    """Sends a request as it is: the host is signed, and urllib would call the body a form."""
    connection = HTTPConnection(urlsplit(address).netloc, timeout=30)
    with closing(connection):
        connection.request(method, path, body, dict(headers))
        answer = connection.getresponse()
        return Answer(answer.status, answer.getheaders(), answer.read())


class Faults:
    """Lets the first try of each distinct request fail, in turns of ``kinds``.

    A kind is 503; ``"slow"``, an answer that takes its time; or ``"cut"``, a connection
    that ends in the middle of the answer, after the server did what it was asked.

    Attributes:
        kinds: What goes wrong, in turn; nothing while there is none.
        endless: Whether later tries fail as well.
        seen: Kinds that went wrong so far, and at what.
    """

    def __init__(self, *kinds, endless=False):
        self.kinds = kinds
        self.endless = endless
        self.seen = []
        self._tried = set()
        self._lock = threading.Lock()

    def of(self, request):
        """Returns what goes wrong with a request."""
        with self._lock:
            if not self.kinds or (request in self._tried and not self.endless):
                return None
            self._tried.add(request)
            kind = self.kinds[len(self.seen) % len(self.kinds)]
            self.seen.append((kind, request))
            return kind


@contextmanager
def failing_proxy(address, faults, slow=0.2, ask=ask):
    """Runs a proxy before a server that fails as networks do; gives its address."""

    class Proxy(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_):
            pass

        def forward(self):
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            # Tries of the same: an upload in parts, and what TensorStore asks of Google, have
            # a name of their own each time.
            path = re.sub("(uploadId|tensorstore)=[^&]*", "", self.path)
            fault = faults.of((self.command, path, self.headers.get("Range")))
            if fault == 503:
                self.send_response(503)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            if fault == "slow":
                time.sleep(slow)
            answer = ask(address, self.command, self.path, body, self.headers.items())
            self.reply(answer, cut=fault == "cut")

        def reply(self, answer, cut):
            data = answer.data
            if cut and not data:  # not even its head arrives
                self.hang_up()
                return
            self.send_response(answer.status)
            length = str(len(data))
            for name, value in answer.headers:
                if name.lower() == "content-length":
                    length = value  # that of an answer to HEAD counts what is not sent
                elif name.lower() not in ("connection", "transfer-encoding"):
                    self.send_header(name, value)
            self.send_header("Content-Length", length)
            self.end_headers()
            self.wfile.write(data[: len(data) // 2] if cut else data)
            if cut:
                self.wfile.flush()
                self.hang_up()

        def hang_up(self):
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)

        do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = forward  # noqa: N815

    server = ThreadingHTTPServer(("127.0.0.1", 0), Proxy)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def objects(url):
    """Returns the content of every object of a store, by key."""
    import obstore

    client = location(url).objects()
    keys = [entry["path"] for batch in obstore.list(client) for entry in batch]
    return {key: bytes(obstore.get(client, key).bytes()) for key in keys}


def files(folder):
    """Returns the content of every file of a store, by path."""
    return {
        file.relative_to(folder).as_posix(): file.read_bytes()
        for file in Path(folder).rglob("*")
        if file.is_file()
    }
