"""Arrays that grow together along their first axis, written in whole shards."""

from __future__ import annotations

import errno
import os
import re
import shutil
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Executor, Future
from pathlib import Path
from typing import Final

import numpy as np
import tensorstore as ts
import zarr

from pipeline.store.base import UNREADABLE
from pipeline.store.layout import Compression, create_array, molecules_per_shard
from pipeline.store.metadata import ArrayNode, read_array_node, write_node
from pipeline.store.shard_buffer import ShardBuffer
from store_schema import VARIABLES
from store_schema.names import ATOM, GRID_POINT, Variable
from store_schema.problems import StoreError

Values = Mapping[str, np.ndarray]
# What is not published may be lost with the machine; synchronising each file is left out.
_CONTEXT = ts.Context({"file_io_sync": False})
_NUMBER: Final = re.compile(r"[0-9]+")
# What says how long an axis of a molecule is. Those that are set aside may be wrong in that, and
# their axes have other names.
_COUNTED: Final = {ATOM: "n_atoms", GRID_POINT: "n_grid"}


class TableWriter:
    """Takes blocks of rows of any size and stages whole shards, so memory stays constant.

    Behind arrays that exist, the staged table begins with the rows of their last
    partial shard, so that what is moved into place is always a whole shard.

    Attributes:
        staging: Folder of the staged arrays.
        rows_per_shard: Rows of a whole shard.
        variables: Arrays of the table by name, those that existed included.
        lengths: Length of each dimension but the first, so far.
    """

    def __init__(
        self,
        staging: Path,
        variables: Sequence[Variable],
        sizes: Mapping[str, int],
        compression: Compression = "lz4",
        *,
        target: Path | None = None,
        committed: Mapping[str, ArrayNode] | None = None,
        executor: Executor | None = None,
        rows: int = 0,
    ) -> None:
        """Creates the staged arrays.

        Args:
            staging: Folder of the staged Zarr group.
            variables: Arrays of the table, all with the same first dimension.
            sizes: Upper bound of each dimension but the first.
            compression: Codec of new arrays.
            target: Folder of the group in the store, where there is one.
            committed: Published metadata of the arrays in ``target``, by name.
            executor: Writes shards while the next rows are taken; without one, writing waits.
            rows: Rows that come, where it is known; else the arrays grow.
        """
        self.staging, self._target, self._committed = staging, target, dict(committed or {})
        self.variables = {v.name: v for v in variables}
        for name, node in self._committed.items():
            there = _variable(name, node)
            if self.variables.setdefault(name, there).dims != there.dims:
                raise _another_meaning(name, there, self.variables[name])
        self.lengths = dimension_lengths(self._committed)
        sizes = {d: max(n, self.lengths.get(d, 0)) for d, n in (self.lengths | dict(sizes)).items()}
        shards = [node.shard for node in self._committed.values()]
        self.rows_per_shard = (
            shards[0][0] if shards else molecules_per_shard(tuple(variables), sizes)
        )
        group = zarr.open_group(staging, mode="a")
        self._arrays = {
            name: self._continued(name, sizes)
            if name in self._committed
            else create_array(
                group,
                v,
                sizes,
                shard_molecules=self.rows_per_shard,
                compression=compression,
                rows=rows,
            )
            for name, v in self.variables.items()
        }
        bounds = {name: array.shape[1:] for name, array in self._arrays.items()}
        # One is filled while the other is written.
        self._buffer, self._other = (
            ShardBuffer(self.variables, bounds, self.rows_per_shard) for _ in range(2)
        )
        self._executor, self._writing = executor, Future[None]()
        self._writing.set_result(None)
        self._flushed = 0
        n_committed = n_rows(self._committed)
        self._first_row = n_committed // self.rows_per_shard * self.rows_per_shard
        self.write(n_committed - self._first_row, self._partial_shard())

    @property
    def n_rows(self) -> int:
        """Rows of the table, those it had before included."""
        return self._first_row + self._flushed + self._buffer.n_rows

    @property
    def missing_rows(self) -> int:
        """Rows until the next shard is whole."""
        return self.rows_per_shard - self._buffer.n_rows

    def leave_shard(self, shapes: Iterable[Mapping[str, tuple[int, ...]]]) -> int:
        """Leaves a whole shard to others, who write it into the staged arrays.

        Only between shards, where no row is missing of one that was begun.

        Args:
            shapes: Shapes of the arrays that make it, by variable.

        Returns:
            Index of the shard in the staged arrays.
        """
        for arrays in shapes:
            self._widen(arrays)
        self._flushed += self.rows_per_shard
        return self._flushed // self.rows_per_shard - 1

    def write(self, rows: int, values: Values) -> None:
        """Takes a block of rows.

        Args:
            rows: Rows in it.
            values: Arrays by variable; long axes may be shorter than the table's, and
                variables may be absent: both are filled.

        Raises:
            ValueError: An array does not have the rows or the dimensions of its variable.
        """
        for name, array in values.items():
            dims = self.variables[name].dims
            if array.ndim != len(dims) or array.shape[0] != rows:
                raise ValueError(f"{name} is {array.shape}, expected {rows} rows of {dims}")
        self._widen({name: array.shape for name, array in values.items()})
        taken = 0
        while taken < rows:
            part = min(rows - taken, self.rows_per_shard - self._buffer.n_rows)
            block = {name: array[taken : taken + part] for name, array in values.items()}
            self._buffer.take(part, block)
            taken += part
            if self._buffer.n_rows == self.rows_per_shard:
                self._flush()

    def finish(self) -> dict[str, ArrayNode]:
        """Completes the shards, moves them behind those of the target and describes the arrays.

        Returns:
            Metadata of every array by name, with the table's full lengths.
        """
        if self._buffer.n_rows:
            self._flush()
        self._writing.result()
        first_shard = self._first_row // self.rows_per_shard
        nodes = {}
        for name, variable in self.variables.items():
            node = self._committed.get(name) or read_array_node(self.staging / name)
            if self._target is not None:
                publish_shards(self.staging / name, self._target / name, first_shard)
            nodes[name] = node.extended({**self.lengths, variable.dims[0]: self.n_rows})
        return nodes

    def _continued(self, name: str, sizes: Mapping[str, int]) -> zarr.Array:
        """Creates the staged array whose shards go behind those of a published one.

        Chunks, shards and codecs are what the published metadata says, whatever a new
        array would have.
        """
        node = self._committed[name]
        write_node(self.staging / name, node.resized((0, *(sizes[d] for d in node.dims[1:]))))
        return zarr.open_array(self.staging / name, mode="r+")

    def _partial_shard(self) -> dict[str, np.ndarray]:
        """Reads the published rows behind the last whole shard."""
        rows: dict[str, np.ndarray] = {}
        if self._target is None:
            return rows
        for name, node in self._committed.items():
            folder = self._target / name
            _refuse_links(folder)
            selection = (slice(self._first_row, node.shape[0]), *map(slice, node.shape[1:]))
            try:
                array = zarr.open_array(folder, mode="r")
                rows[name] = np.asarray(array[selection])
            except UNREADABLE as error:
                raise _not_to_be_extended(folder, str(error)) from error
            if array.shape != node.shape:
                wrong = f"its shape is {array.shape}, that in the root {node.shape}"
                raise _not_to_be_extended(folder, wrong)
        _refuse_lost(self._target, self.variables, rows)
        return rows

    def _widen(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        """Notes the lengths behind the first axis."""
        for name, shape in shapes.items():
            for dim, length in zip(self.variables[name].dims[1:], shape[1:], strict=True):
                self.lengths[dim] = max(self.lengths.get(dim, 0), length)

    def _flush(self) -> None:
        """Writes the buffered rows as one shard of every variable."""
        self._writing.result()
        buffer, start = self._buffer, self._flushed
        if self._executor is None:
            self._write_shard(buffer, start)
        else:
            self._writing = self._executor.submit(self._write_shard, buffer, start)
        self._flushed += buffer.n_rows
        self._buffer, self._other = self._other, buffer
        self._buffer.clear()

    def _write_shard(self, buffer: ShardBuffer, start: int) -> None:
        stop = start + buffer.n_rows
        for name, array in self._arrays.items():
            if stop > array.shape[0]:
                # Twice as long each time: a resize writes metadata, and ``finish`` the true length.
                array.resize((max(stop, 2 * array.shape[0]), *array.shape[1:]))
            values = buffer.filled(name)
            if values is not None:
                write_rows(array, self.staging / name, start, values)


def write_rows(array: zarr.Array, folder: Path, start: int, values: np.ndarray) -> None:
    """Writes consecutive rows; what is missing behind them is left as it is.

    Args:
        array: The array.
        folder: Where it lies.
        start: First row.
        values: Rows; long axes may be shorter than the array's.

    Raises:
        OSError: They cannot be written, as on a full disk.
    """
    selection = (slice(start, start + len(values)), *map(slice, values.shape[1:]))
    if values.dtype.kind == "O":
        array[selection] = values
        return
    kvstore = {"driver": "file", "path": f"{folder.absolute()}/"}
    try:
        opened = ts.open({"driver": "zarr3", "kvstore": kvstore}, context=_CONTEXT, open=True)
        opened.result()[selection].write(values).result()
    except ValueError as error:  # which is what TensorStore makes of every answer
        if shutil.disk_usage(folder).free < values.nbytes:
            reason = f"{os.strerror(errno.ENOSPC)} for {values.nbytes / 2**20:.1f} MiB"
            raise OSError(errno.ENOSPC, reason, str(folder)) from error
        raise OSError(errno.EIO, str(error), str(folder)) from error


def _refuse_links(folder: Path) -> None:
    """Raises a StoreError for links among the chunks of an array: they lead out of the store."""
    chunks = folder / "c"
    for path in (folder, chunks, *chunks.rglob("*")):
        if path.is_symlink():
            raise _not_to_be_extended(path, "this is a link")


def _refuse_lost(table: Path, variables: Mapping[str, Variable], rows: Values) -> None:
    """Raises a StoreError where a chunk is gone, so that its rows read as if nothing was known."""
    for name, values in rows.items():
        count = _COUNTED.get("".join(variables[name].dims[1:2]), "")
        if count not in rows or values.dtype.kind != "f" or not values.size:
            continue
        finite = np.isfinite(values.reshape(*values.shape[:2], -1))
        known = np.asarray(finite.all(axis=-1))
        length = np.where(known.any(axis=1), known.shape[1] - known[:, ::-1].argmax(axis=1), 0)
        # Every atom has a place; anything else may be missing.
        lost = length != rows[count] if name == "positions" else length > rows[count]
        if lost.any():
            wrong = f"its lengths are not those of {count}, as where a chunk is lost"
            raise _not_to_be_extended(table / name, wrong)


def _not_to_be_extended(place: Path, wrong: str) -> StoreError:
    return StoreError.of(
        str(place),
        wrong=f"nothing can be added to this store: {wrong}",
        consequence="nothing was added",
        remedy="See what is wrong with 'dcmnet validate STORE', or ingest the sources again",
    )


def publish_shards(staged: Path, target: Path, first_shard: int) -> None:
    """Moves the shards of a staged array behind those that an array already has.

    From ``first_shard`` on the array then holds what was staged and nothing else, whatever
    a killed append may have left there. The rows before stay readable at every moment.

    Args:
        staged: Folder of the staged array, whose shards count from zero.
        target: Folder of the array in the store; made where it is missing.
        first_shard: Index in ``target`` of the first staged shard.
    """
    if not target.exists():
        write_node(target, read_array_node(staged))
    moved = set()
    for shard in _shards(staged):
        if shard.is_file():
            index, *rest = shard.relative_to(staged / "c").parts
            place = target.joinpath("c", str(int(index) + first_shard), *rest)
            place.parent.mkdir(parents=True, exist_ok=True)
            os.replace(shard, place)
            moved.add(place)
    for shard in _shards(target):
        n = int(shard.relative_to(target / "c").parts[0])
        if shard.is_file() and n >= first_shard and shard not in moved:
            shard.unlink()


def _shards(folder: Path) -> list[Path]:
    """What lies in an array under the number of a shard; other files are left alone."""
    chunks = folder / "c"
    found = sorted(chunks.rglob("*")) if chunks.is_dir() else []
    return [path for path in found if _NUMBER.fullmatch(path.relative_to(chunks).parts[0])]


def n_rows(arrays: Mapping[str, ArrayNode]) -> int:
    """Returns the length of the first axis of a table, 0 without arrays."""
    return next(iter(arrays.values())).shape[0] if arrays else 0


def dimension_lengths(arrays: Mapping[str, ArrayNode]) -> dict[str, int]:
    """Returns the length of each dimension of a table but the first."""
    lengths: dict[str, int] = {}
    for node in arrays.values():
        lengths.update(zip(node.dims[1:], node.shape[1:], strict=True))
    return lengths


def _another_meaning(name: str, there: Variable, given: Variable) -> StoreError:
    return StoreError.of(
        name,
        wrong=f"it is an array of {', '.join(given.dims)} here; the store has kept one of "
        f"{', '.join(there.dims)} as it came",
        consequence="the two are not the same quantity, and nothing was added",
        remedy="Ingest all sources into a new store",
    )


def _variable(name: str, node: ArrayNode) -> Variable:
    dtype = "str" if node.data_type == "string" else str(node.data_type)
    quantity = VARIABLES[name].quantity if name in VARIABLES else "none"
    return Variable(name, node.dims, dtype, quantity, node.attributes["description"])
