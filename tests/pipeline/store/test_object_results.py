"""Results in a store by URL: the objects of the local store, or nothing of them."""

import subprocess
import sys
import threading

import numpy as np
import pytest
import xarray as xr

pytest.importorskip("obstore")

import obstore

from pipeline import ingest, open_store
from pipeline.inspection.validate import validate_store
from pipeline.sample import sample_sources
from pipeline.store.bucket_publication import staged_store
from pipeline.store.location import RETRIES, location
from pipeline.store.results import write_results
from store_schema.problems import StoreError
from tests.object_store import DYING, SECRET, Faults, failing_proxy, files, objects

pytestmark = pytest.mark.distributed
CLASSIC, IONS, _, SINGLES = map(str, sample_sources())


@pytest.fixture
def stores(url, tmp_path):
    """The same store by URL and as a folder, and how many molecules it has."""
    local = tmp_path / "a.zarr"
    report = ingest([IONS], local)
    ingest([IONS], url)
    return url, local, report.n_molecules


def results(n, run, *names):
    return xr.Dataset(
        {name: ("molecule", np.full(n, run, "f4")) for name in names or ("esp_rmse",)},
        attrs={"run": run},
    )


def test_results_are_those_of_the_local_store_also_when_replaced_and_extended(stores):
    url, local, n = stores
    for store in (url, local):
        write_results(store, "a", results(n, 1, "esp_rmse", "esp_mae", "only_here"))
        write_results(store, "b", results(n, 2))
        with pytest.raises(StoreError, match="overwrite"):
            write_results(store, "b", results(n, 3))
        write_results(store, "a", results(n, 4), overwrite=True)
    assert objects(url) == files(local)
    for store in (url, local):
        ingest([CLASSIC], store, append=True)
        with open_store(store) as tree:
            found = tree["results/a/esp_rmse"].values
            assert (found[:n] == 4).all()
            assert np.isnan(found[n:]).all()
    assert objects(url) == files(local)
    assert not validate_store(url).problems


def test_readers_see_no_group_that_is_half_there(stores, monkeypatch):
    url, _, n = stores
    write_results(url, "a", results(n, 1, "esp_rmse", "esp_mae"))
    seen = []

    def looking(*arguments, put=obstore.put, **options):
        with open_store(url) as tree:
            groups = tree["results"].children if "results" in tree.children else {}
            found = {name: group.to_dataset().load() for name, group in groups.items()}
        seen.append(found["a"].attrs["run"] if found else None)
        for group in found.values():
            for name in ("esp_rmse", "esp_mae"):
                assert (group[name] == group.attrs["run"]).all()
        return put(*arguments, **options)

    monkeypatch.setattr(obstore, "put", looking)
    write_results(url, "a", results(n, 2, "esp_rmse", "esp_mae"), overwrite=True)
    assert set(seen) == {1, None}


CHILD = (
    DYING
    + """
import numpy as np, xarray as xr
from pipeline.store.results import write_results
data = xr.Dataset({"esp_mae": ("molecule", np.full(int(sys.argv[2]), 2, "f4"))}, attrs={"run": 2})
write_results(sys.argv[1], "a", data, overwrite=True)
"""
)
"""Dies at a request that writes: the claim, the root without the old group, shards, ..."""


@pytest.mark.parametrize(("at", "left"), [(2, [1]), (4, []), (6, [])])
def test_a_killed_writer_leaves_nothing_that_is_seen_and_the_next_gets_through(stores, at, left):
    url, local, n = stores
    write_results(url, "a", results(n, 1))
    child = subprocess.run([sys.executable, "-c", CHILD, url, str(n), str(at)], check=False)
    assert child.returncode == -9
    with open_store(url) as tree:
        groups = tree["results"].children if "results" in tree.children else {}
        assert [group.attrs["run"] for group in groups.values()] == left
    for store in (url, local):
        write_results(store, "a", results(n, 3), overwrite=True)
    assert objects(url) == files(local)


def test_results_wait_for_an_ingest_and_say_so(stores):
    url, local, n = stores
    waiting = threading.Thread(target=write_results, args=(url, "a", results(n, 1)))

    def both():
        with staged_store(location(url), append=True) as staged:
            waiting.start()
            ingest([CLASSIC], staged.folder, append=True)
            staged.publish()
        waiting.join()

    with pytest.warns(UserWarning, match=r"waiting for process .*remove .*\.writer"):
        both()
    ingest([CLASSIC], local, append=True)
    write_results(local, "a", results(n, 1))
    with open_store(url) as ours, open_store(local) as theirs:
        xr.testing.assert_identical(ours["results/a"].load(), theirs["results/a"].load())


def test_results_get_through_faults_or_are_not_there(stores, server, monkeypatch):
    url, local, n = stores
    faults = Faults(503, "cut", "slow", "cut")
    with failing_proxy(server.address, faults) as address:
        server.reach(monkeypatch, address)
        write_results(url, "a", results(n, 1))
        write_results(local, "a", results(n, 1))
        assert {kind for kind, _ in faults.seen} == {503, "cut", "slow"}
        monkeypatch.setitem(RETRIES, "max_retries", 2)
        faults.endless = True
        with pytest.raises(StoreError, match="the object store does not answer") as told:
            write_results(url, "b", results(n, 1))
        assert SECRET not in str(told.value)
    server.reach(monkeypatch)
    assert {key: data for key, data in objects(url).items() if key != ".writer"} == files(local)
