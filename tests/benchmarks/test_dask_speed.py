"""Ingest by two Dask workers beside one, of deflated files, where decoding dominates."""

from __future__ import annotations

import os
import time
import zipfile

import pytest

from pipeline import ingest
from tests.benchmarks.large_files import bytes_a_molecule, write_large

pytestmark = pytest.mark.benchmark

FILES = 4
MEGABYTES = float(os.environ.get("DCMNET_BENCH_DASK_MB", "400"))
AIM = 1.6


def test_two_workers_beside_one(tmp_path, capsys):
    distributed = pytest.importorskip("distributed")
    n = int(MEGABYTES * 1e6 / FILES / bytes_a_molecule())
    sources = [tmp_path / f"{index}.npz" for index in range(FILES)]
    for source in sources:
        write_large(source, n, zipfile.ZIP_DEFLATED)
    seconds = {}
    for workers in (1, 2):
        with distributed.LocalCluster(
            n_workers=workers, threads_per_worker=1, dashboard_address=None
        ) as cluster:
            # Once for what workers import.
            ingest(sources[:1], tmp_path / f"w{workers}.zarr", dask=cluster.scheduler_address)
            start = time.perf_counter()
            address, store = cluster.scheduler_address, tmp_path / f"{workers}.zarr"
            ingest(sources, store, dask=address, workers=workers)
            seconds[workers] = time.perf_counter() - start
    ratio = seconds[1] / seconds[2]
    with capsys.disabled():
        print(
            f"\n{FILES * n:,} molecules: one worker {seconds[1]:.1f} s, two {seconds[2]:.1f} s, "
            f"{ratio:.2f} times as fast (aim {AIM})"
        )
    assert ratio >= AIM
