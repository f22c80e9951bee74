"""How far it goes: ``python -m tests.benchmarks.scale`` prints the tables of docs/scale.md.

Costs follow from measured constants (docs/benchmarks.md); plans are made in full, each in a
process of its own, for molecules of 4 to 28 atoms and 500 to 1,536 points.
"""

from __future__ import annotations

import json
import resource
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from pipeline import ingest, read_schema
from pipeline.loader.plan import LoaderPlan
from pipeline.loader.shapes import MoleculeSizes, choose_shapes
from pipeline.sample import sample_sources
from pipeline.store.layout import molecules_per_shard
from store_schema import VARIABLES
from store_schema.names import ATOM, AXES, GRID_POINT
from tests.benchmarks.large_files import bytes_a_molecule
from tests.stores import NAMES

SIZES = [10**5, 10**6, 10**7, 10**8, 10**9]
MOST_PLANNED = 10**8
SOURCES = [1, 100, 10_000]
ATOMS, POINTS = (4, 28), (500, 1536)
BATCH, WINDOW, BLOCK = 64, 160, 256
# Bytes of a molecule in NPZ (the bundled sample) and in a store (the 1,095 reference
# molecules); of docs/benchmarks.md bytes/s of ingest with two threads and molecules/s of
# streaming from a warm cache.
BYTES, STORED = bytes_a_molecule(), 19_000
INGEST, STREAM = 10.01e9 / 74, 121_000


def plan(n: int) -> tuple[float, float, float, float, float]:
    """Seconds of shapes and of the first window, of a whole epoch, GiB, and the shuffle."""
    rng = np.random.default_rng(0)
    n_atoms = rng.integers(ATOMS[0], ATOMS[1] + 1, n, dtype=np.int32)
    n_grid = rng.integers(POINTS[0], POINTS[1] + 1, n, dtype=np.int32)
    n_pairs = n_atoms * np.minimum(n_atoms - 1, 14)
    sizes = MoleculeSizes(np.arange(n, dtype=np.int32), n_atoms, n_grid, n_pairs)
    start = time.perf_counter()
    plan = LoaderPlan(sizes, choose_shapes(sizes, BATCH), BATCH, BLOCK, WINDOW)
    plan.window(plan.order(0), 0)
    first = time.perf_counter() - start
    report = plan.report()
    whole = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return first, whole, peak, report.shuffle_displacement, report.shuffle_separation


def metadata(n_sources: int) -> tuple[float, float]:
    """Bytes of the root's metadata with so many sources like the sample's, and seconds to read."""
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder) / "sample.zarr"
        schema = ingest(sample_sources()[:1], store).schema
        document = json.loads((store / "zarr.json").read_text())
        counts = ("n_molecules", "n_quarantined")
        totals = {name: getattr(schema, name) * n_sources for name in counts}
        many = schema.model_copy(update={"sources": schema.sources * n_sources, **totals})
        document["attributes"] |= many.to_attributes()
        (store / "zarr.json").write_text(json.dumps(document))
        start = time.perf_counter()
        read_schema(store)
        return (store / "zarr.json").stat().st_size, time.perf_counter() - start


def duration(seconds: float) -> str:
    """Returns a time in the unit that one would say it in."""
    unit, length = next(
        ((unit, length) for unit, length in (("h", 3600), ("min", 60)) if seconds > 1.5 * length),
        ("s", 1),
    )
    return f"{seconds / length:.2g} {unit}"


def main(most: int) -> None:
    """Prints the tables."""
    sizes = {ATOM: ATOMS[1], GRID_POINT: POINTS[1], **AXES}
    per_shard = molecules_per_shard(tuple(VARIABLES[name] for name in NAMES), sizes)
    print("| molecules | store | files | ingest | epoch, streaming |\n|---|---|---|---|---|")
    for n in SIZES:
        files = -(-n // per_shard) * len(NAMES)
        print(
            f"| {n:.0e} | {n * STORED / 1e9:,.0f} GB | {files:,} | "
            f"{duration(n * BYTES / INGEST)} | {duration(n / STREAM)} |"
        )
    print("\n| molecules | first batch | whole epoch | peak memory | moved | neighbours apart |")
    print("|---|---|---|---|---|---|")
    for n in (size for size in SIZES if size <= most):
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            first, whole, peak, moved, apart = pool.submit(plan, n).result()
        print(
            f"| {n:.0e} | {first:.2f} s | {whole:.1f} s | {peak:.2f} GiB | "
            f"{moved:.3f} | {apart:.1e} |"
        )
    print("\n| sources | metadata of the root | to read it |\n|---|---|---|")
    for n in SOURCES:
        size, seconds = metadata(n)
        print(f"| {n:,} | {size / 1e6:.2g} MB | {seconds:.2g} s |")


if __name__ == "__main__":
    main(int(float(sys.argv[1])) if len(sys.argv) > 1 else MOST_PLANNED)
