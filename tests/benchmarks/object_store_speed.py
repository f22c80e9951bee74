"""What the benchmark of stores by URL measures, and nginx as a server of objects."""

from __future__ import annotations

import os
import subprocess
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from pipeline.loader import MoleculeBatch, make_loader
from pipeline.store.location import STORE_CACHE

_SECONDS, _ROUNDS = 2.0, 4
# So little that the store of the comparison does not fit and is streamed.
_STREAMING_BYTES = 192 * 2**20
_NGINX = """
{user}
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/nginx.err;
events {{}}
http {{
    access_log off;
    sendfile on;
    keepalive_requests 1000000;
    client_body_temp_path {folder}/body;
    server {{ listen 127.0.0.1:{port}; location / {{ root {root}; }} }}
}}
"""


@contextmanager
def static_server(root: Path, folder: Path, port: int) -> Iterator[str]:
    """Runs nginx, which answers what reading asks of S3: GET of an object or a range."""
    configuration = folder / "nginx.conf"
    user = "user root root;" if os.geteuid() == 0 else ""  # else it gives up the rights to read
    configuration.write_text(_NGINX.format(user=user, folder=folder, root=root, port=port))
    with subprocess.Popen(["nginx", "-c", configuration], stderr=subprocess.DEVNULL) as server:
        try:
            address = f"http://127.0.0.1:{port}"
            for _ in range(100):
                try:
                    urllib.request.urlopen(f"{address}/bucket/a.zarr/zarr.json").close()
                    break
                except OSError:
                    time.sleep(0.05)
            yield address
        finally:
            server.terminate()


def streaming_speeds(
    folder: str, url: str, cache: str, environment: Mapping[str, str]
) -> dict[str, dict[str, float]]:
    """Molecules a second from each, and the processor time of this process for one.

    All take turns, and the best of each counts: other work on the machine comes and goes,
    and a cache is filled at first.
    """
    os.environ.update(environment)
    streams = {"a folder": _batches(folder), "by URL": _batches(url)}
    os.environ[STORE_CACHE] = cache
    streams["by URL, kept"] = _batches(url)
    del os.environ[STORE_CACHE]
    best = {name: {"molecules/s": 0.0, "us of CPU": 0.0} for name in streams}
    for _ in range(_ROUNDS):
        for name, stream in streams.items():
            found = _speed(stream)
            if found["molecules/s"] > best[name]["molecules/s"]:
                best[name] = found
    return best


def _batches(store: str) -> Iterator[MoleculeBatch]:
    return iter(
        make_loader(
            store,
            batch_size=64,
            split="all",
            num_epochs=None,
            prefetch=0,
            memory_bytes=_STREAMING_BYTES,
        )
    )


def _speed(stream: Iterator[MoleculeBatch]) -> dict[str, float]:
    next(stream)
    count, started, used = 0, time.perf_counter(), time.process_time()
    for batch in stream:
        count += int(batch.molecule_mask.sum())
        if time.perf_counter() - started > _SECONDS:
            break
    seconds, cpu = time.perf_counter() - started, time.process_time() - used
    return {"molecules/s": count / seconds, "us of CPU": 1e6 * cpu / count}
