"""Ingest on Dask: the same bytes as in one process, whatever happens on the way."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from pipeline import ingest
from pipeline.sample import sample_sources
from store_schema.problems import AmbiguityError, ConfigError, SourceError, StoreError
from tests.pipeline.inference.convention_table import molecules
from tests.pipeline.inference.conventions import Writer
from tests.pipeline.ingestion.test_ingest import classic, contents, save

pytestmark = pytest.mark.distributed

CONVENTIONS = 8


@pytest.fixture(scope="module")
def cluster():
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address=None
    ) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def dask(cluster):
    return cluster.scheduler_address


def small(n: int, seed: int, bad: float = 0.0) -> dict[str, np.ndarray]:
    """Molecules of the sample without their grids, over and over, some of them spoilt."""
    columns = {key: classic(60)[key] for key in ("id", "N", "Z", "R", "mono", "Dxyz", "com")}
    rng = np.random.default_rng(seed)
    rows = rng.integers(0, 60, n)
    columns = {key: values[rows] for key, values in columns.items()}
    columns["id"] = np.array([f"{name}#{row}" for row, name in enumerate(columns["id"])])
    spoilt = rng.random(n) < bad
    real = (columns["Z"] > 0).reshape(columns["mono"].shape)
    columns["mono"] += 0.05 * (real.T * spoilt).T
    return columns


def agree(tmp_path: Path, sources: list, dask: str, **options) -> tuple:
    """Ingests in one process and on the cluster; returns the reports."""
    reports = [
        ingest(sources, tmp_path / "one.zarr", **options),
        ingest(sources, tmp_path / "dask.zarr", dask=dask, **options),
    ]
    assert contents(tmp_path / "dask.zarr") == contents(tmp_path / "one.zarr")
    assert not list(tmp_path.glob(".*"))
    return tuple(reports)


def test_the_sample_is_the_same(tmp_path, dask):
    one, other = agree(tmp_path, sample_sources(), dask)
    assert one == other


def test_random_conventions_are_the_same(tmp_path, dask):
    records = molecules(tmp_path / "records")
    settled = 0
    for seed in range(CONVENTIONS):
        folder = tmp_path / str(seed)
        (folder / "source").mkdir(parents=True)
        written = Writer(records, np.random.default_rng(seed)).write(folder / "source")
        try:
            one, other = agree(folder, [written.source], dask)
        except AmbiguityError:
            continue
        assert one == other
        settled += 1
    assert settled >= CONVENTIONS / 2


@pytest.mark.parametrize("write", [np.savez, np.savez_compressed])
def test_shards_of_several_sources_with_quarantine_and_append(tmp_path, dask, write):
    sources = []
    for seed, n in enumerate((3000, 2500, 4100)):
        sources.append(tmp_path / f"{seed}.npz")
        write(sources[-1], **small(n, seed, bad=0.1))
    one, other = agree(tmp_path, sources[:2], dask)
    assert one == other
    assert one.n_quarantined > 300
    one, other = agree(tmp_path, sources[2:], dask, append=True)
    assert one == other
    shards = tmp_path / "dask.zarr" / "positions" / "c"
    assert len(list(shards.iterdir())) == 5


@pytest.mark.parametrize("after", ["plan-0", "*-sound", "shard"])
def test_a_killed_worker_changes_nothing(tmp_path, after):
    distributed = pytest.importorskip("distributed")
    np.savez_compressed(tmp_path / "a.npz", **small(30_000, 0, bad=0.02))
    ingest([tmp_path / "a.npz"], tmp_path / "one.zarr")
    killed, ended = [], threading.Event()

    def kill(worker: int) -> None:
        """Ends a worker when the ingest has come so far."""
        while not ended.is_set():
            there = (
                tmp_path.glob(".dask.zarr.partial/positions/c/*")
                if after == "shard"
                else tmp_path.glob(f".dask.zarr.dask.partial/*/{after}")
            )
            if any(there):
                os.kill(worker, signal.SIGKILL)
                killed.append(worker)
                return
            time.sleep(0.002)

    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address=None
    ) as cluster:
        with distributed.Client(cluster) as client:
            worker = next(iter(client.run(os.getpid).values()))
        thread = threading.Thread(target=kill, args=(worker,))
        thread.start()
        ingest([tmp_path / "a.npz"], tmp_path / "dask.zarr", dask=cluster.scheduler_address)
        ended.set()
        thread.join()
    assert killed
    assert contents(tmp_path / "dask.zarr") == contents(tmp_path / "one.zarr")
    assert not list(tmp_path.glob(".*"))


def refusal(sources: list, store: Path, **options) -> str:
    with pytest.raises(SourceError) as error:
        ingest(sources, store, **options)
    return str(error.value)


def test_a_damaged_source_is_refused_alike_and_leaves_nothing(tmp_path, dask):
    for name, write in (("a.npz", np.savez_compressed), ("b.npz", np.savez)):
        place = tmp_path / name
        write(place, **small(4000, 0))
        data = bytearray(place.read_bytes())
        data[len(data) // 2] ^= 0xFF
        place.write_bytes(data)
        one = refusal([place], tmp_path / "one.zarr")
        assert refusal([place], tmp_path / "dask.zarr", dask=dask) == one
        assert sorted(path.name for path in tmp_path.iterdir()) == [name]
        place.unlink()


def test_an_invalid_molecule_is_refused_alike(tmp_path, dask):
    source = save(tmp_path / "a.npz", small(4000, 0, bad=0.01))
    told = {"on_invalid": "raise"}
    one = refusal([source], tmp_path / "one.zarr", **told)
    assert refusal([source], tmp_path / "dask.zarr", dask=dask, **told) == one
    assert [path.name for path in tmp_path.iterdir()] == ["a.npz"]


def test_no_cluster_is_an_answer(tmp_path, monkeypatch):
    monkeypatch.setattr("pipeline.ingestion.dask_cluster._CONNECT_SECONDS", 1)
    source = save(tmp_path / "a.npz", small(20, 0))
    with pytest.raises(StoreError, match="dask worker ADDRESS"):
        ingest([source], tmp_path / "a.zarr", dask="tcp://127.0.0.1:9")
    assert [path.name for path in tmp_path.iterdir()] == ["a.npz"]


def test_without_the_extra_it_is_named(tmp_path, monkeypatch):
    source = save(tmp_path / "a.npz", small(20, 0))
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(ConfigError, match="extra 'dask'"):
        ingest([source], tmp_path / "a.zarr", dask="local")
    assert [path.name for path in tmp_path.iterdir()] == ["a.npz"]
