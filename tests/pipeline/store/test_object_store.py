"""Stores by URL, against a real S3 server on loopback: the bytes of a local store, or nothing."""

import json
import subprocess
import sys
import traceback

import numpy as np
import pytest

pytest.importorskip("obstore")

import obstore

from pipeline import ingest, make_loader, open_store, read_schema
from pipeline.inspection.validate import validate_store
from pipeline.loader.reader import StoreReader
from pipeline.sample import sample_sources
from pipeline.store.base import Store
from pipeline.store.bucket_publication import staged_store
from pipeline.store.bucket_requests import upload
from pipeline.store.location import REQUEST_RETRIES, RETRIES, ObjectLocation, location
from store_schema.problems import StoreError
from tests.object_store import DYING, SECRET, Faults, failing_proxy, files, objects

pytestmark = pytest.mark.distributed
CLASSIC, IONS, _, SINGLES = map(str, sample_sources())


def test_a_new_store_and_appends_are_the_bytes_of_the_local_store(url, tmp_path):
    local = tmp_path / "a.zarr"
    for sources, append in (([SINGLES, IONS], False), ([CLASSIC], True)):
        ingest(sources, local, append=append)
        older = open_store(url) if append else None
        before = None if older is None else older.to_dataset().isel(molecule=slice(0, 5)).load()
        ingest(sources, url, append=append)
        assert objects(url) == files(local)
        again = ingest(sources, url, append=append)
        assert again.n_molecules == 0
        assert objects(url) == files(local)
    assert before.identical(older.to_dataset().isel(molecule=slice(0, 5)).load())
    assert not validate_store(url).problems
    assert read_schema(url) == read_schema(local)


def test_batches_are_those_of_the_local_store(url, sample_store):
    ingest(sample_sources(), url)
    pairs = zip(
        make_loader(url, batch_size=8, split="train"),
        make_loader(sample_store, batch_size=8, split="train"),
        strict=True,
    )
    for ours, theirs in pairs:
        for name in ("esp", "positions", "atomic_numbers"):
            np.testing.assert_array_equal(getattr(ours, name), getattr(theirs, name))


def test_of_two_writers_one_is_refused_and_nothing_is_lost(url):
    ingest([IONS], url)
    before = objects(url)
    with (
        staged_store(location(url), append=True),
        pytest.raises(StoreError, match="process"),
    ):
        ingest([CLASSIC], url, append=True)
    assert objects(url) == before


def test_a_root_that_changed_meanwhile_is_not_replaced(url):
    ingest([IONS], url)
    client = location(url).objects()

    def overtaken():
        with staged_store(location(url), append=True) as staged:
            ingest([CLASSIC], staged.folder, append=True)
            obstore.put(client, "zarr.json", other)
            staged.publish()

    other = bytes(obstore.get(client, "zarr.json").bytes()) + b"\n"
    with pytest.raises(StoreError, match="has published the store since"):
        overtaken()
    assert bytes(obstore.get(client, "zarr.json").bytes()) == other


CHILD = (
    DYING
    + """
from pipeline import ingest
ingest([sys.argv[1]], sys.argv[2], append=True)
"""
)


def test_a_killed_append_leaves_the_store_and_a_rerun_gives_the_same_bytes(url, tmp_path):
    local = tmp_path / "a.zarr"
    for store in (url, local):
        ingest([IONS], store)
    n = open_store(url).sizes["molecule"]
    child = subprocess.run([sys.executable, "-c", CHILD, CLASSIC, url, "8"], check=False)
    assert child.returncode == -9
    assert open_store(url).sizes["molecule"] == n
    assert not validate_store(url).problems
    # It is certain that the process of this claim has ended; were it another machine's, not.
    client = location(url).objects()
    claim = bytes(obstore.get(client, ".writer").bytes())
    obstore.put(client, ".writer", json.dumps({**json.loads(claim), "system": "other"}).encode())
    with pytest.raises(StoreError, match=r"remove .*\.writer"):
        ingest([CLASSIC], url, append=True)
    obstore.put(client, ".writer", claim)
    ingest([CLASSIC], url, append=True)
    ingest([CLASSIC], local, append=True)
    assert objects(url) == files(local)


def test_every_request_may_fail_once(url, server, tmp_path, monkeypatch):
    local = tmp_path / "a.zarr"
    ingest([IONS], local)
    faults = Faults(503, "cut", "slow", "cut")
    with failing_proxy(server.address, faults) as address:
        server.reach(monkeypatch, address)
        ingest([IONS], url)
        written = len(faults.seen)
        pairs = zip(
            make_loader(url, batch_size=8, split="train"),
            make_loader(local, batch_size=8, split="train"),
            strict=True,
        )
        for ours, theirs in pairs:
            np.testing.assert_array_equal(ours.esp, theirs.esp)
    server.reach(monkeypatch)
    assert objects(url) == files(local)
    assert {kind for kind, _ in faults.seen[:written]} == {503, "cut", "slow"}
    assert {kind for kind, _ in faults.seen[written:]} == {503, "cut", "slow"}


@pytest.mark.parametrize("server", ["s3"], indirect=True)  # the emulator drops the header
def test_no_cache_serves_what_was_replaced(url):
    ingest([IONS], url)
    client = location(url).objects()
    told = [obstore.get(client, key).attributes.get("Cache-Control") for key in objects(url)]
    assert set(told) == {"no-cache"}


@pytest.mark.parametrize("kinds", [(503, "cut", "slow"), ("cut",), ("cut", 503)])
def test_a_large_file_gets_through_in_parts(url, server, monkeypatch, tmp_path, kinds):
    content = np.random.default_rng(0).bytes(11 * 2**20)
    (file := tmp_path / "shard").write_bytes(content)
    faults = Faults(*kinds)
    with failing_proxy(server.address, faults) as address:
        server.reach(monkeypatch, address)
        upload(location(url).objects(), "shard", file)
    assert {request[0] for _, request in faults.seen} >= {"POST", "PUT"}
    server.reach(monkeypatch)
    assert objects(url) == {"shard": content}


@pytest.mark.parametrize("kind", [503, "cut"])
def test_faults_without_end_are_one_error_and_change_nothing(url, server, monkeypatch, kind):
    monkeypatch.setitem(RETRIES, "max_retries", 2)
    monkeypatch.setitem(REQUEST_RETRIES, "max_retries", 2)
    ingest([IONS], url)
    before = objects(url)
    faults = Faults(endless=True)
    with failing_proxy(server.address, faults) as address:
        server.reach(monkeypatch, address)
        begun = StoreReader(url, ["esp"])
        rows = np.arange(4)
        memory = begun.allocate(4, 0, int(begun.n_grid[:4].max()))
        faults.kinds = (kind,)
        for ask in (
            lambda: ingest([CLASSIC], url, append=True),
            lambda: open_store(url),
            lambda: make_loader(url, batch_size=4),
            lambda: begun.read(rows, memory),
        ):
            with pytest.raises(StoreError, match="the object store does not answer") as told:
                ask()
            assert url in str(told.value)
            assert SECRET not in "".join(traceback.format_exception(told.value))
    server.reach(monkeypatch)
    # That the claim was put, it was never told.
    assert {key: data for key, data in objects(url).items() if key != ".writer"} == before
    assert ingest([CLASSIC], url, append=True).n_molecules


def test_what_is_refused_is_named_without_credentials(url, server):
    with pytest.raises(StoreError, match="no Zarr store") as missing:
        read_schema(url)
    ingest([IONS], url)
    with pytest.raises(StoreError, match=f"{url}: there is .* of this name already"):
        ingest([CLASSIC], url)
    with pytest.raises(StoreError, match="bucket"):
        ingest([IONS], f"{server.scheme}://nothing-there/a.zarr")
    for bad in (f"s3://me:{SECRET}@bucket/a.zarr", f"s3://bucket/a.zarr?key={SECRET}"):
        with pytest.raises(StoreError, match="environment") as refused:
            Store.at(bad)
        assert SECRET not in str(refused.value) + str(missing.value)
    with pytest.raises(StoreError, match="scheme"):
        open_store("ftp://bucket/a.zarr")


def test_google_and_files_are_addressed_as_tensorstore_and_paths_are(tmp_path):
    place = location("gs://bucket/some/a.zarr/")
    assert isinstance(place, ObjectLocation)
    assert place.kvstore("esp") == {
        "driver": "gcs",
        "bucket": "bucket",
        "path": "some/a.zarr/esp/",
    }
    ingest([IONS], f"file://{tmp_path}/a.zarr")
    assert read_schema(f"file://{tmp_path}/a.zarr") == read_schema(tmp_path / "a.zarr")
