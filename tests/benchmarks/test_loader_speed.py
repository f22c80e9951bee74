"""How fast batches come: beside memory, beside other formats, and as a store grows.

Batches of 64 molecules, all fields, two cores. The loader finds the pairs within the
cutoff as well; what it is compared with does not.
"""

import json
import os
import shutil
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import pytest
from rich.console import Console
from rich.table import Table

from tests.benchmarks.loader_speed import cold_speed, random_molecules, speeds
from tests.stores import write_store

pytestmark = pytest.mark.benchmark

# Gigabytes; the largest is kept out of an ordinary run, as it takes a while to write.
SIZES = [float(size) for size in os.environ.get("DCMNET_BENCH_GB", "0.25,1").split(",")]

# Of a gather in memory that pads the same batches.
AT_LEAST = 0.4


def measured(function, *arguments):
    """Calls a function in a new process, where annotations are not checked."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def show(title, headings, rows):
    table = Table(title=title)
    for heading in headings:
        table.add_column(heading, justify="right")
    for row in rows:
        table.add_row(*row)
    Console().print(table)


def test_speed_beside_memory_and_other_formats(tmp_path):
    pytest.importorskip("atompack")
    pytest.importorskip("lmdb")
    best, waste = measured(speeds, tmp_path, 16_384)
    memory = best["numpy gather in memory"]
    show(
        "Shuffled batches of 64, warm page cache",
        ("", "molecules/s", "of memory"),
        [(name, f"{value:,.0f}", f"{value / memory:.3f}") for name, value in best.items()],
    )
    print(f"padding waste {waste:.3f}")
    streaming = best["this loader, streaming"]
    assert streaming >= AT_LEAST * memory
    assert streaming > best["atompack, lz4, flat"]
    assert waste <= 0.1


def grow(store, times):
    """Makes a store so many times as long, by copies of its shards."""
    root = json.loads((store / "zarr.json").read_text())
    nodes = root["consolidated_metadata"]["metadata"]
    for name, node in nodes.items():
        n, *rest = node["shape"]
        shard = node["chunk_grid"]["configuration"]["chunk_shape"][0]
        assert n % shard == 0
        shards = n // shard
        for copy in range(1, times):
            for index in range(shards):
                source = store / name / "c" / str(index)
                if source.exists():
                    target = store / name / "c" / str(index + copy * shards)
                    (shutil.copytree if source.is_dir() else shutil.copyfile)(source, target)
        node["shape"] = [n * times, *rest]
        (store / name / "zarr.json").write_text(json.dumps(node))
    schema = root["attributes"]["dcmnet_schema"]
    schema["n_molecules"] *= times
    schema["sources"][0]["n_molecules"] *= times
    (store / "zarr.json").write_text(json.dumps(root))


def test_speed_and_memory_as_a_store_grows(tmp_path):
    """Cold cache; a quarter of a gigabyte first, then copies of it."""
    columns = random_molecules(16_384)
    rows = []
    for gigabytes in SIZES:
        store = write_store(tmp_path / "store.zarr", columns)
        grow(store, max(1, round(gigabytes * 4)))
        result = measured(cold_speed, store)
        shutil.rmtree(store)
        rows.append(
            (
                f"{result['bytes'] / 1e9:.2f} GB",
                f"{result['molecules']:,}",
                f"{result['seconds to open']:.1f} s",
                f"{result['molecules/s']:,.0f}",
                f"{result['bytes/s'] / 1e6:,.0f}",
                f"{result['bytes/s'] / result['plain bytes/s']:.2f}",
                f"{result['peak bytes'] / 2**30:.2f} GiB",
            )
        )
    headings = (
        "store",
        "molecules",
        "to open",
        "molecules/s",
        "MB/s from disk",
        "of a plain reading",
        "peak memory",
    )
    show("One epoch from a cold cache", headings, rows)
