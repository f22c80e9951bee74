"""What a disk and a machine deliver: the speed of the loader compared with that of memory."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Int, Int64
from pydantic import BaseModel, ConfigDict

from pipeline.loader.batch import FIELDS, BatchShape, MoleculeBatch
from pipeline.loader.buffer import MoleculeBuffer
from pipeline.loader.dataset import BatchDataset, buffer_widths
from pipeline.loader.make import make_loader
from pipeline.loader.reader import StoreReader, slots_needed
from pipeline.store.base import StoreLike
from store_schema.names import ATOM, GRID_POINT, VARIABLES
from store_schema.problems import StoreError


class BenchReport(BaseModel):
    """What was measured.

    Attributes:
        n_molecules: Molecules of the store.
        batch_size: Molecules per batch.
        shapes: Padded sizes in ascending order.
        molecules_per_second: Molecules in finished batches, pairs included.
        megabytes_per_second: Bytes of those batches, in 10⁶.
        seconds_to_first_batch: From opening the store to the first batch.
        padding_waste: Share of the bytes of batches that is padding.
        in_memory_molecules_per_second: What a bare gather of the same batches reaches
            from arrays in memory, without pairs and without reading: no loader is faster.
        share_of_in_memory: The loader's speed over that.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    n_molecules: int
    batch_size: int
    shapes: tuple[BatchShape, ...]
    molecules_per_second: float
    megabytes_per_second: float
    seconds_to_first_batch: float
    padding_waste: float
    in_memory_molecules_per_second: float
    share_of_in_memory: float


def measure(
    store: StoreLike, *, batch_size: int = 16, cutoff: float = 4.0, seconds: float = 5.0
) -> BenchReport:
    """Measures how fast a store streams on this machine.

    Args:
        store: The store, or its path or URL.
        batch_size: Molecules per batch.
        cutoff: Distance in Å below which two atoms are a pair.
        seconds: How long to stream.

    Raises:
        StoreError: There is no store, or no molecule in it.
    """
    started = time.perf_counter()
    loader = make_loader(
        store, batch_size=batch_size, split="all", num_epochs=None, cutoff=cutoff, prefetch=0
    )
    if not loader.n_molecules:
        raise StoreError.of(
            str(store),
            wrong="the store has no molecules",
            consequence="there is nothing to measure",
            remedy="Ingest some",
        )
    iterator = iter(loader)
    next(iterator)
    first_batch = time.perf_counter() - started
    speed, bytes_per_second = _stream(lambda: next(iterator), seconds)
    iterator.close()
    bound = _in_memory(store, loader, seconds / 4)
    return BenchReport(
        n_molecules=loader.n_molecules,
        batch_size=batch_size,
        shapes=tuple(loader.plan.shapes),
        molecules_per_second=speed,
        megabytes_per_second=bytes_per_second / 1e6,
        seconds_to_first_batch=first_batch,
        padding_waste=loader.padding_waste,
        in_memory_molecules_per_second=bound,
        share_of_in_memory=speed / bound,
    )


def bare_gather(
    buffer: MoleculeBuffer, slots: Int[np.ndarray, " n"], shape: BatchShape
) -> dict[str, np.ndarray]:
    """Pads a batch as numpy does it fastest: one indexing a field, and the two masks.

    Args:
        buffer: Molecules in memory, zero at padding.
        slots: Places in the buffer.
        shape: Padded sizes.
    """
    width = {ATOM: shape.atoms, GRID_POINT: shape.grid_points}
    batch = {}
    for name, field in buffer.fields.items():
        dims = VARIABLES[name].dims
        cut = slice(width[dims[1]]) if len(dims) > 1 and dims[1] in width else slice(None)
        batch[name] = field[slots, cut] if field.ndim > 1 else field[slots]
    batch["atom_mask"] = np.arange(shape.atoms) < buffer.n_atoms[slots, None]
    batch["grid_mask"] = np.arange(shape.grid_points) < buffer.n_grid[slots, None]
    return batch


def _stream(make: Callable[[], MoleculeBatch], seconds: float) -> tuple[float, float]:
    """Returns molecules and bytes per second."""
    molecules = size = 0
    started = time.perf_counter()
    while time.perf_counter() - started < seconds:
        batch = make()
        molecules += int(batch.molecule_mask.sum())
        size += sum(array.nbytes for array in batch)
    elapsed = time.perf_counter() - started
    return molecules / elapsed, size / elapsed


def _in_memory(store: StoreLike, loader: BatchDataset, seconds: float) -> float:
    """Returns molecules per second of a bare gather of the first window's batches."""
    plan, shapes = loader.plan.epoch(0), loader.plan.shapes
    here = plan.window == 0
    batches = [
        (loader.plan.sizes.rows[members[members >= 0]].astype(np.int64), shapes[index])
        for members, index in zip(plan.members[here, 0], plan.shape_index[here], strict=True)
    ]
    buffer = load_molecules(store, np.sort(np.concatenate([rows for rows, _ in batches])), shapes)
    slots_and_shapes = [(np.searchsorted(buffer.rows, rows), shape) for rows, shape in batches]
    molecules = 0
    started = time.perf_counter()
    while time.perf_counter() - started < seconds:
        for slots, shape in slots_and_shapes:
            bare_gather(buffer, slots, shape)
            molecules += len(slots)
    return molecules / (time.perf_counter() - started)


def load_molecules(
    store: StoreLike, rows: Int64[np.ndarray, " n"], shapes: Sequence[BatchShape]
) -> MoleculeBuffer:
    """Reads molecules into memory for `bare_gather`.

    Args:
        store: The store, or its path or URL.
        rows: Rows of the store, ascending.
        shapes: Padded sizes of the batches that will be gathered.
    """
    reader = StoreReader(store, FIELDS)
    memory = reader.allocate(slots_needed(rows), *buffer_widths(reader, shapes))
    for field in memory.values():
        field[...] = 0
    buffer = reader.read(rows, memory)
    for field in memory.values():
        np.nan_to_num(field, copy=False)
    return buffer
