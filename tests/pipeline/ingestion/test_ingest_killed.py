"""SIGKILL at any moment: the store is absent, as before, or whole; a rerun gives the same bytes."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from pipeline import ingest, open_store
from pipeline.sample import sample_sources

CLASSIC, IONS, _, SINGLES = map(str, sample_sources())
CHILD = """
import sys
from pipeline import ingest
sources, store, append = sys.argv[1].split("|"), sys.argv[2], sys.argv[3] == "append"
print("ready", flush=True)
ingest(sources, store, append=append)
print("done", flush=True)
"""


def contents(store: Path) -> dict[str, str]:
    return {
        str(path.relative_to(store)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(store.rglob("*"))
        if path.is_file()
    }


def killed(sources: list[str], store: Path, mode: str, delay: float) -> bool:
    """Runs an ingest and kills it after a while; says whether it had ended by itself."""
    arguments = [sys.executable, "-c", CHILD, "|".join(sources), str(store), mode]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        time.sleep(delay)
        process.kill()
        return "done" in process.stdout.read()


@pytest.mark.slow
def test_kills_at_random_moments(tmp_path):
    start = time.perf_counter()
    ingest([SINGLES, IONS], tmp_path / "first.zarr")
    first_takes = time.perf_counter() - start
    first = contents(tmp_path / "first.zarr")
    shutil.copytree(tmp_path / "first.zarr", tmp_path / "whole.zarr")
    start = time.perf_counter()
    ingest([CLASSIC], tmp_path / "whole.zarr", append=True)
    append_takes = time.perf_counter() - start
    whole = contents(tmp_path / "whole.zarr")
    rng = np.random.default_rng(0)
    store = tmp_path / "a.zarr"
    for _ in range(15):
        shutil.rmtree(store, ignore_errors=True)
        killed([SINGLES, IONS], store, "create", rng.uniform(0, 1.2 * first_takes))
        if store.exists():
            assert contents(store) == first
        else:
            ingest([SINGLES, IONS], store)
            assert contents(store) == first
        ended = killed([CLASSIC], store, "append", rng.uniform(0, 1.2 * append_takes))
        molecules = open_store(store).sizes["molecule"]
        assert molecules in (69, 150)
        assert molecules == 150 or not ended
        ingest([CLASSIC], store, append=True)
        assert contents(store) == whole
    assert {path.name for path in tmp_path.iterdir()} == {"a.zarr", "first.zarr", "whole.zarr"}
