"""How fast a store streams by URL, beside the same one in a folder: warm caches, two cores.

The server shares the cores. That of moto is Python, so it is the server that is measured;
nginx, where it is installed, answers what reading asks of S3 and shows what the loader takes.
"""

import shutil
from urllib.parse import urlsplit

import pytest

pytest.importorskip("obstore")

import obstore

from pipeline.store.location import location
from tests.benchmarks.loader_speed import random_molecules
from tests.benchmarks.object_store_speed import static_server, streaming_speeds
from tests.benchmarks.test_loader_speed import measured, show
from tests.object_store import environment, free_port
from tests.stores import write_store

pytestmark = pytest.mark.benchmark
N = 16_384


@pytest.mark.parametrize("server", ["s3"], indirect=True)
def test_streaming_by_url_beside_a_folder(server, url, tmp_path):
    store = write_store(tmp_path / "bucket" / "a.zarr", random_molecules(N))
    client = location(url).objects()
    for file in store.rglob("*"):
        if file.is_file():
            obstore.put(client, file.relative_to(store).as_posix(), file)
    runs = [("moto", streams(tmp_path, url, server.address))]
    if shutil.which("nginx"):
        with static_server(tmp_path, tmp_path, free_port()) as address:
            runs.append(("nginx", streams(tmp_path, "s3://bucket/a.zarr", address)))
    rows = []
    for name_of_server, found in runs:
        for name, speed in found.items():
            share = speed["molecules/s"] / found["a folder"]["molecules/s"]
            rows.append(
                (
                    f"{name_of_server}: {name}",
                    f"{speed['molecules/s']:,.0f}",
                    f"{share:.2f}",
                    f"{speed['us of CPU']:.1f}",
                )
            )
    headings = ("", "molecules/s", "of a folder", "µs of CPU a molecule")
    show("Shuffled batches of 64 by URL, warm caches", headings, rows)
    for _, found in runs:
        kept, folder = (found[name]["molecules/s"] for name in ("by URL, kept", "a folder"))
        assert kept > 0.5 * folder


def streams(folder, url, address):
    local, cache = str(folder / "bucket" / "a.zarr"), str(folder / f"cache{urlsplit(address).port}")
    return measured(streaming_speeds, local, url, cache, environment(address))
