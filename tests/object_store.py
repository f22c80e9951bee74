"""A real S3 server on loopback."""

import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import contextmanager

import pytest


def _free_port():
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return listening.getsockname()[1]


@contextmanager
def s3_server():
    """Runs moto's server in a process of its own; gives its address."""
    pytest.importorskip("moto.server")
    port = _free_port()
    code = "import sys; from moto.server import main; main(sys.argv[1:])"
    arguments = [sys.executable, "-c", code, "-H", "127.0.0.1", "-p", str(port)]
    with subprocess.Popen(
        arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as server:
        try:
            address = f"http://127.0.0.1:{port}"
            for _ in range(300):
                try:
                    urllib.request.urlopen(f"{address}/moto-api/", timeout=5).close()
                    break
                except urllib.error.HTTPError:
                    break
                except OSError:
                    time.sleep(0.1)
            urllib.request.urlopen(
                urllib.request.Request(f"{address}/bucket", method="PUT"), timeout=10
            ).close()
            yield address
        finally:
            server.kill()
