"""Reads molecules of a store into memory: whole chunks, ahead, only what is asked for.

Chunks are read and decoded outside the interpreter lock, into the buffer that batches are
gathered from: by `shard_reader` where the store, or a cache of it, lies on this machine as ingest
wrote it, by TensorStore, in parallel, from anywhere else. Chunks of nothing but padding do
not exist in a store; their columns are not asked for.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple

import numpy as np
import tensorstore as ts
from jaxtyping import Int, Int64, Shaped

from pipeline.loader.batch import GRID_FIELDS
from pipeline.loader.buffer import MoleculeBuffer, empty_fields, settle_missing
from pipeline.loader.integrity import check_sizes, check_structure
from pipeline.loader.order import Blocks
from pipeline.store.base import UNREADABLE, Store, StoreLike
from pipeline.store.layout import MOLECULES_PER_BLOCK
from pipeline.store.location import REQUEST_RETRIES
from pipeline.store.shard_reader import ShardedArray
from store_schema.names import ATOM, GRID_POINT, VARIABLES

# Molecules of one read; the unit that is shuffled.
BLOCK_MOLECULES = MOLECULES_PER_BLOCK
# Below this share of wanted rows single rows are copied; above it the rows
# between are taken along, as copying row by row takes twice as long.
DENSE_SHARE = 0.5
# Spans that a disk is asked for ahead: some tens of megabytes, so that it is never idle.
_SPANS_AHEAD = 8


class StoreReader:
    """Reads the variables of one store.

    Attributes:
        store: The store.
        schema: Schema of the store; what lies beyond its sizes is not looked at.
        fields: Variables that are read into buffers.
        n_atoms: Atoms of every molecule.
        n_grid: Grid points of every molecule; 0 where no grid field is read.
    """

    def __init__(self, store: StoreLike, fields: Sequence[str]) -> None:
        """Opens a store.

        Args:
            store: The store, or its path or URL.
            fields: Variables to read; those the store lacks are left out.

        Raises:
            StoreError: There is no store, it lacks what its schema names, or has molecules of
                impossible sizes.
        """
        self.store = Store.at(store)
        self.schema = self.store.schema()
        # No chunk is kept: an epoch needs each once.
        cpus = os.cpu_count() or 1
        self._context = ts.Context(
            {
                "cache_pool": {"total_bytes_limit": 0},
                "data_copy_concurrency": {"limit": cpus},
                "file_io_concurrency": {"limit": max(4, cpus)},
                "s3_request_retries": REQUEST_RETRIES,
                "gcs_request_retries": REQUEST_RETRIES,
            }
        )
        self.fields = tuple(name for name in fields if name in self.schema.variables)
        self._files = self.store.files()
        self._arrays = {name: self._open_array(name) for name in self.fields}
        self._shards = {
            name: array for name, array in self._arrays.items() if isinstance(array, ShardedArray)
        }
        self.n_atoms = self.column("n_atoms")
        self.n_grid = np.zeros_like(self.n_atoms)
        if any(name in GRID_FIELDS for name in self.fields):
            self.n_grid = self.column("n_grid")
        check_sizes(str(self.store), self.schema, self.n_atoms, self.n_grid)

    def column(self, name: str) -> Shaped[np.ndarray, " molecule"]:
        """Reads a variable that has one number per molecule, whole."""
        return np.asarray(self._result(self._open(name)[: self.schema.n_molecules].read()))

    def allocate(self, n: int, atoms: int, grid_points: int) -> dict[str, np.ndarray]:
        """Allocates memory for `read`."""
        return empty_fields(self.fields, n, atoms, grid_points)

    def read(self, rows: Int64[np.ndarray, " n"], memory: dict[str, np.ndarray]) -> MoleculeBuffer:
        """Reads molecules, and where it is faster some that lie between them.

        Args:
            rows: Rows of the store, ascending.
            memory: What `allocate` returned for at least `slots_needed(rows)` molecules
                and the widths of the widest.

        Returns:
            A buffer in that memory, its rows ascending.

        Raises:
            StoreError: A chunk cannot be read, or atoms are missing.
        """
        spans = list(_spans(rows))
        if self._files:
            self._files.bring(file for array in self._shards.values() for file in array.files(rows))
        pending: list[Any] = []
        start = asked = 0
        for number, span in enumerate(spans):
            stop = start + len(span.rows)
            pending += self._read_span(
                span, {name: field[start:stop] for name, field in memory.items()}
            )
            start = stop
            if any(array.waits for array in self._shards.values()):
                asked = self._ask_for(spans, asked, number + 1)
        for write in pending:
            self._result(write)
        taken = [span.rows for span in spans] or [np.zeros(0, np.int64)]
        all_rows = np.concatenate(taken)
        check_structure(str(self.store), all_rows, self.n_atoms[all_rows], memory)
        return MoleculeBuffer(
            rows=all_rows.astype(np.int32),
            n_atoms=self.n_atoms[all_rows].astype(np.int32),
            n_grid=self.n_grid[all_rows].astype(np.int32),
            fields=memory,
            present=settle_missing(memory, len(all_rows)),
        )

    def _read_span(self, span: _Span, targets: dict[str, np.ndarray]) -> list[Any]:
        """Reads a span; returns what is still being written, by TensorStore."""
        pending = []
        for name, array in self._arrays.items():
            inner = tuple(map(slice, self._widths(span, name, targets[name].shape[1:])))
            target = targets[name][(slice(None), *inner)]
            if isinstance(array, ShardedArray):
                with self._unreadable():
                    array.read(span.selection, target)
            else:
                pending.append(ts.array(target).write(array[(span.selection, *inner)]))
        return pending

    def _ask_for(self, spans: list[_Span], asked: int, following: int) -> int:
        """Has the system bring spans from the disk, and the indices of those behind them.

        Args:
            spans: All there are.
            asked: How many have been asked for.
            following: The one that is read next.

        Returns:
            How many have been asked for now.
        """
        upto = following + _SPANS_AHEAD
        with self._unreadable():
            for name, array in self._shards.items():
                for span in spans[upto : upto + _SPANS_AHEAD]:
                    array.ask_for_indices(span.selection)
                for span in spans[max(asked, following) : upto]:
                    array.ask_for(span.selection, self._widths(span, name, array.shape[1:]))
        return upto

    def _widths(self, span: _Span, name: str, lengths: tuple[int, ...]) -> tuple[int, ...]:
        """Returns how much of each row is read: as much as the widest molecule has."""
        widest = {ATOM: self.n_atoms, GRID_POINT: self.n_grid}
        return tuple(
            int(widest[dim][span.rows].max()) if dim in widest else length
            for dim, length in zip(VARIABLES[name].dims[1:], lengths, strict=True)
        )

    def _open_array(self, name: str) -> ShardedArray | ts.TensorStore:
        array = None
        with self._unreadable(), suppress(FileNotFoundError):
            if self._files:
                array = ShardedArray.open(self._files.folder / name, self._files.open)
        return array or self._open(name)

    def _open(self, name: str) -> ts.TensorStore:
        spec = {"driver": "zarr3", "kvstore": self.store.kvstore(name)}
        return self._result(ts.open(spec, context=self._context, open=True, read=True))

    def _result(self, future: Any) -> Any:
        with self._unreadable():
            return future.result()

    @contextmanager
    def _unreadable(self) -> Iterator[None]:
        """Says what it means that something cannot be read."""
        try:
            yield
        except UNREADABLE as error:
            raise self.store.unreadable(error) from error


class _Span(NamedTuple):
    """Rows that are read at once: what to ask the array for, and what comes."""

    selection: slice | Int64[np.ndarray, " n"]
    rows: Int64[np.ndarray, " n"]


def _spans(rows: Int64[np.ndarray, " n"]) -> Iterator[_Span]:
    """Cuts ascending rows into reads within blocks of `BLOCK_MOLECULES`."""
    cuts = np.flatnonzero(np.diff(rows // BLOCK_MOLECULES)) + 1
    for wanted in np.split(rows, cuts) if len(rows) else []:
        first, last = int(wanted[0]), int(wanted[-1])
        if len(wanted) >= DENSE_SHARE * (last + 1 - first):
            yield _Span(slice(first, last + 1), np.arange(first, last + 1))
        else:
            yield _Span(wanted, wanted)


def slots_needed(rows: Int[np.ndarray, " n"]) -> int:
    """Returns how many molecules `StoreReader.read` reads for these rows."""
    blocks = Blocks.of(rows, BLOCK_MOLECULES)
    spanned = rows[blocks.starts + blocks.lengths - 1] - rows[blocks.starts] + 1
    dense = blocks.lengths >= DENSE_SHARE * spanned
    return int(np.where(dense, spanned, blocks.lengths).sum())
