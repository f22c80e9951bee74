"""Stores by URL that a folder keeps: each object is brought once, and again when it changed."""

import os
import pickle
import re
import shutil
from urllib.parse import unquote

import numpy as np
import pytest

pytest.importorskip("obstore")

from pipeline import ingest, make_loader
from pipeline.loader.reader import StoreReader
from pipeline.sample import sample_sources
from store_schema.problems import StoreError
from tests.object_store import Faults, failing_proxy

pytestmark = pytest.mark.distributed
CLASSIC, IONS, _, SINGLES = map(str, sample_sources())


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("DCMNET_STORE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def batches(store, **options):
    return list(make_loader(store, batch_size=8, split="all", **options))


def assert_same(ours, theirs):
    for one, other in zip(ours, theirs, strict=True):
        for name, a, b in zip(one._fields, one, other, strict=True):
            np.testing.assert_array_equal(a, b, err_msg=name)


def of_molecules(requests):
    """Shards that were read, but for the sizes of molecules: TensorStore reads those whole."""
    paths = [unquote(path) for _, (method, path, _) in requests if method == "GET"]
    return [path for path in paths if "/c/" in path and not re.search("n_(atoms|grid)", path)]


def test_a_second_run_asks_for_no_shard_again(url, server, cache, sample_store, monkeypatch):
    ingest(sample_sources(), url)
    seen = Faults("none", endless=True)  # nothing goes wrong; requests are written down
    with failing_proxy(server.address, seen) as proxy:
        server.reach(monkeypatch, proxy)
        first = batches(url)
        brought = of_molecules(seen.seen)
        assert any("/positions/c/" in path for path in brought)
        assert len(set(brought)) == len(brought)
        seen.seen.clear()
        second = batches(url)
        assert not of_molecules(seen.seen)
    theirs = batches(sample_store)
    assert_same(first, theirs)
    assert_same(second, theirs)


def test_what_an_append_has_rewritten_is_brought_again(url, cache, tmp_path):
    ingest([SINGLES, IONS], url)
    batches(url)
    ingest([CLASSIC], url, append=True)
    local = tmp_path / "a.zarr"
    ingest([SINGLES, IONS], local)
    ingest([CLASSIC], local, append=True)
    assert_same(batches(url), batches(local))
    kept = list(cache.rglob("positions/c/0/0/0"))
    assert [len(list(folder.iterdir())) for folder in kept] == [1]


def test_a_cache_may_be_emptied_and_shared(url, cache, sample_store):
    ingest(sample_sources(), url)
    loader = make_loader(url, batch_size=8, split="all", memory_bytes=1)
    theirs = batches(sample_store, memory_bytes=1)
    assert_same(list(loader), theirs)
    shutil.rmtree(cache)
    assert_same(list(pickle.loads(pickle.dumps(loader))), theirs)
    shutil.rmtree(cache)
    assert_same(list(loader), theirs)


def test_a_file_cut_short_is_brought_again(url, cache, sample_store):
    ingest(sample_sources(), url)
    theirs = batches(url)
    for file in cache.rglob("esp/c/0/0/*"):
        os.truncate(file, 1000)
    assert_same(batches(url), theirs)


def test_a_folder_that_cannot_keep_anything_is_one_error(url, cache):
    ingest([IONS], url)
    cache.write_text("in the way")
    with pytest.raises(StoreError, match="this folder, which keeps what is read"):
        StoreReader(url, ["positions"])


@pytest.mark.usefixtures("cache")
def test_every_request_may_fail_once(url, server, sample_store, monkeypatch):
    ingest(sample_sources(), url)
    faults = Faults("cut", 503)
    with failing_proxy(server.address, faults) as proxy:
        server.reach(monkeypatch, proxy)
        ours = batches(url)
    assert faults.seen
    assert_same(ours, batches(sample_store))
