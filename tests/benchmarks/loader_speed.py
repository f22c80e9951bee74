"""What the benchmarks of the loader measure; run in processes of their own.

The checks of annotations that tests run under would slow the loader down several times.
"""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from pipeline.loader import make_loader
from pipeline.loader.bench import bare_gather, load_molecules
from tests.benchmarks.loader_rivals import ArrayRecord, Atompack, Batches, Lmdb, ZarrPython
from tests.stores import random_columns, write_store

B = 64
_SECONDS, _ROUNDS = 2.0, 4
# So little that the store of the comparison does not fit and is streamed.
_STREAMING_BYTES = 192 * 2**20
# Enough to tell how fast a disk is read.
_PLAIN_BYTES = 2 * 2**30


def random_molecules(n: int) -> dict[str, np.ndarray]:
    """Molecules of 4 to 28 atoms and 500 to 1,536 grid points, which grow with the atoms."""
    rng = np.random.default_rng(0)
    n_atoms = rng.integers(4, 29, n)
    n_grid = np.clip(500 + 43 * (n_atoms - 4) + rng.normal(0, 60, n), 500, 1536).astype(int)
    return random_columns(rng, n_atoms, n_grid, missing=0)


def speeds(folder: Path, n: int) -> tuple[dict[str, float], float]:
    """Molecules a second of every way to the same batches, and the padding waste.

    The page cache is warm. All take turns, and the best of each counts: other work on
    the machine comes and goes.
    """
    columns = random_molecules(n)
    store = write_store(folder / "store.zarr", columns)
    held, loader = (
        make_loader(
            store, batch_size=B, split="all", num_epochs=None, prefetch=0, memory_bytes=memory_bytes
        )
        for memory_bytes in (2**40, _STREAMING_BYTES)
    )
    plan, rows, shapes = loader.plan.epoch(0), loader.plan.sizes.rows, loader.plan.shapes
    wanted = [
        (rows[members[members >= 0]], shapes[index])
        for members, index in zip(plan.members[:, 0], plan.shape_index, strict=True)
    ]
    memory = load_molecules(store, np.arange(n), shapes)
    rivals = {
        "LMDB, raw records": Lmdb(folder / "lmdb", columns),
        "atompack, lz4, flat": Atompack(folder / "atompack.atp", columns),
        "ArrayRecord under Grain": ArrayRecord(folder / "records", columns),
        "zarr-python, random rows": ZarrPython(store),
    }
    expected = bare_gather(memory, *wanted[0])
    for name, rival in rivals.items():
        batch = next(iter(rival.batches(wanted[:1])))
        for field, values in expected.items():
            np.testing.assert_array_equal(batch[field], values, err_msg=f"{name}, {field}")
    streams: dict[str, Iterator[int]] = {
        "numpy gather in memory": (
            len(bare_gather(memory, *batch)["total_charge"]) for batch in itertools.cycle(wanted)
        ),
        "this loader, streaming": (int(batch.molecule_mask.sum()) for batch in loader),
        "this loader, held in memory": (int(batch.molecule_mask.sum()) for batch in held),
    }
    for name, rival in rivals.items():
        streams[name] = _endless(rival, wanted)
    best = dict.fromkeys(streams, 0.0)
    for _ in range(_ROUNDS):
        for name, stream in streams.items():
            best[name] = max(best[name], _speed(stream))
    return best, loader.padding_waste


def _endless(rival: ArrayRecord | Atompack | Lmdb | ZarrPython, wanted: Batches) -> Iterator[int]:
    while True:
        for batch in rival.batches(wanted):
            yield len(batch["total_charge"])


def _speed(molecules: Iterator[int]) -> float:
    next(molecules)
    count, started = 0, time.perf_counter()
    for n in molecules:
        count += n
        if time.perf_counter() - started > _SECONDS:
            break
    return count / (time.perf_counter() - started)


def cold_speed(store: Path) -> dict[str, float]:
    """Streams one epoch of a store whose files have left the page cache.

    Returns:
        Seconds to open it, molecules and bytes read per second after that, bytes per second of
        a plain reading of its files, the peak of this process's memory in bytes, and the
        molecules.
    """
    files = [file for file in store.rglob("*") if file.is_file()]
    size = sum(file.stat().st_size for file in files)
    plain = _plain_speed(files)
    for file in files:
        _forget(file)
    started = time.perf_counter()
    loader = make_loader(store, batch_size=B, split="all", prefetch=0)
    opened = time.perf_counter()
    molecules = sum(int(batch.molecule_mask.sum()) for batch in loader)
    seconds = time.perf_counter() - opened
    return {
        "seconds to open": opened - started,
        "molecules/s": molecules / seconds,
        "bytes/s": size / seconds,
        "plain bytes/s": plain,
        "peak bytes": _peak_memory(),
        "molecules": molecules,
        "bytes": size,
    }


def _peak_memory() -> int:
    """Returns the largest resident memory of this process in bytes, that before exec left out."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.partition("VmHWM:")[2].split()[0])


def _plain_speed(files: list[Path]) -> float:
    """Returns bytes per second of reading files that have left the page cache, one by one."""
    buffer = memoryview(bytearray(2**20))
    read, seconds = 0, 0.0
    for file in files:
        _forget(file)
        started = time.perf_counter()
        with file.open("rb", buffering=0) as source:
            while n := source.readinto(buffer):
                read += n
        seconds += time.perf_counter() - started
        if read > _PLAIN_BYTES:
            break
    return read / seconds


def _forget(file: Path) -> None:
    """Drops a file from the page cache."""
    descriptor = os.open(file, os.O_RDONLY)
    os.fsync(descriptor)
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(descriptor)
