"""Ingest on a Dask cluster: blocks and shards are tasks, and the store is the same.

Workers leave checked molecules in scratch files next to the store. As soon as those of a
whole shard are there, one task writes it. This process keeps the order, writes what fills
no shard, and publishes.
"""

from __future__ import annotations

import shutil
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4

from pipeline.files import staging_folder
from pipeline.ingestion.blocks import Tally
from pipeline.ingestion.dask_tasks import (
    Part,
    Piece,
    SharedFolder,
    Spilled,
    check_block,
    unpack,
    write_shard,
)
from pipeline.ingestion.plan import Plan
from pipeline.store.molecules import StoreWriter
from store_schema.extras import extra
from store_schema.problems import DcmError, StoreError

if TYPE_CHECKING:
    from distributed import Client, Future

LOCAL: Final = "local"
_CONNECT_SECONDS: Final = 30
# Blocks under way for each thread of the cluster: one is worked on, others wait their turn.
_BLOCKS_AHEAD: Final = 4
_SHARDS_AHEAD: Final = 2


@contextmanager
def on_dask(
    address: str, workers: int, writer: StoreWriter, plans: Sequence[Plan], keeps_split: bool
) -> Iterator[DaskBlockWriter]:
    """Opens a block_writer on a cluster; its scratch files go when it closes.

    Args:
        address: Of the scheduler, or ``local`` for a cluster of this machine.
        workers: Processes of a local cluster.
        writer: Takes what fills no shard, and publishes.
        plans: Sources, in their order.
        keeps_split: Whether to store what the files' names say of the set.

    Raises:
        ConfigError: The extra ``dask`` is not installed.
        StoreError: The cluster cannot be reached, or has no workers.
    """
    with ExitStack() as stack:
        scratch = writer.folder.with_name(f"{writer.folder.name}.dask")
        folder = stack.enter_context(staging_folder(scratch)).absolute()
        # A name of its own: workers remember what they read in the folder of another ingest.
        work = folder / uuid4().hex
        shared = SharedFolder(work)
        shared.make(plans)
        # Gone by rename, so that no task that is still at work can add to what is removed.
        stack.callback(work.rename, folder / "gone")
        client = stack.enter_context(_client(address, workers, folder))
        block_writer = DaskBlockWriter(client, shared, writer, plans, keeps_split)
        stack.callback(block_writer.close)
        yield block_writer


class DaskBlockWriter:
    """Checks blocks and writes shards on a cluster; see ``BlockWriter``."""

    def __init__(
        self,
        client: Client,
        shared: SharedFolder,
        writer: StoreWriter,
        plans: Sequence[Plan],
        keeps_split: bool,
    ) -> None:
        """Notes what there is to do; nothing is submitted yet."""
        self._client, self._shared, self._writer = client, shared, writer
        self._plans, self._keeps_split = plans, keeps_split
        self._threads = max(1, sum(client.nthreads().values()))
        self._unpacking: dict[int, list[Future]] = {}
        self._coming = self._blocks()
        self._checking: deque[Future] = deque()
        self._shards: deque[tuple[Future, list[Part]]] = deque()
        self._parts: deque[Part] = deque()
        self._waiting = 0

    def store(self, plan: Plan) -> Iterator[Tally]:
        """Writes the molecules of a source; see ``BlockWriter.store``."""
        source = self._plans.index(plan)
        for _ in range(0, plan.source.layout.n_molecules, plan.block_molecules):
            self._look_ahead()
            block: Spilled = self._result(self._checking.popleft())
            self._write(block.sound)
            if block.tally.reasons:
                self._writer.quarantine(block.unsound.load(), block.tally.reasons)
                block.unsound.path.unlink()
            yield block.tally
        self._unpacking.pop(source, None)
        shutil.rmtree(self._shared.unpacked(source))

    def finish(self) -> None:
        """Writes the molecules that fill no shard, and waits for those that are written."""
        while self._shards:
            self._await_shard()
        for part in self._taken(self._waiting):
            self._write_here(part)

    def close(self) -> None:
        """Gives up what is still under way, after an error."""
        from distributed import wait

        shards = [shard for shard, _ in self._shards]
        if shards:
            wait(shards, timeout=_CONNECT_SECONDS)
        unpacking = [future for futures in self._unpacking.values() for future in futures]
        self._client.cancel([*self._checking, *unpacking])

    def _blocks(self) -> Iterator[tuple[int, tuple[int, int]]]:
        """Yields the blocks of all sources; unpacks a few sources ahead of them."""
        for source, plan in enumerate(self._plans):
            for ahead in range(source, min(source + self._threads, len(self._plans))):
                self._unpack(ahead)
            n, step = plan.source.layout.n_molecules, plan.block_molecules
            for start in range(0, n, step):
                yield source, (start, min(start + step, n))

    def _unpack(self, source: int) -> None:
        if source not in self._unpacking:
            self._unpacking[source] = [
                self._submit(unpack, self._shared.path, source, index, key)
                for index, keys in enumerate(self._plans[source].source.archives().values())
                for key in keys
            ]

    def _look_ahead(self) -> None:
        """Submits blocks, as many as the cluster should have."""
        while len(self._checking) < _BLOCKS_AHEAD * self._threads:
            block = next(self._coming, None)
            if block is None:
                return
            source, rows = block
            after = self._unpacking[source]
            future = self._submit(
                check_block, self._shared.path, source, rows, self._keeps_split, after
            )
            self._checking.append(future)

    def _write(self, piece: Piece) -> None:
        """Hands on sound molecules: by whole shards to the cluster, else to the writer."""
        table = self._writer.molecules
        if piece.n_molecules:
            self._parts.append(Part(piece, 0, piece.n_molecules))
            self._waiting += piece.n_molecules
        while self._waiting >= table.missing_rows:
            parts = self._taken(table.missing_rows)
            if table.missing_rows < table.rows_per_shard:  # begun in an earlier ingest
                for part in parts:
                    self._write_here(part)
                continue
            shard = table.leave_shard([part.piece.shapes for part in parts])
            future = self._submit(
                write_shard,
                self._shared.path,
                table.staging.absolute(),
                table.variables,
                shard,
                parts,
                priority=1,
            )
            self._shards.append((future, parts))
            if len(self._shards) > _SHARDS_AHEAD * self._threads:
                self._await_shard()

    def _taken(self, n: int) -> list[Part]:
        """Takes so many of the molecules that wait, in their order."""
        taken = []
        self._waiting -= n
        while n:
            piece, start, stop = self._parts.popleft()
            if stop - start > n:
                self._parts.appendleft(Part(piece, start + n, stop))
                stop = start + n
            taken.append(Part(piece, start, stop))
            n -= stop - start
        return taken

    def _write_here(self, part: Part) -> None:
        values = {name: v[part.start : part.stop] for name, v in part.piece.load().items()}
        self._writer.write(part.stop - part.start, values)
        _remove_used([part])

    def _await_shard(self) -> None:
        shard, parts = self._shards.popleft()
        self._result(shard)
        _remove_used(parts)

    def _submit(self, work: Any, *args: Any, priority: int = 0) -> Future:
        return self._client.submit(work, *args, priority=priority, pure=False)

    def _result(self, future: Future) -> Any:
        """Returns what a task returned.

        Raises:
            DcmError: What the task has against its source.
            StoreError: The cluster has lost it.
        """
        from distributed import CancelledError, KilledWorker
        from distributed.comm import CommClosedError

        try:
            result = future.result()
        except (KilledWorker, CancelledError, CommClosedError, TimeoutError) as error:
            raise StoreError.of(
                str(self._writer.folder),
                wrong=f"the Dask cluster failed: {type(error).__name__}: {error}",
                consequence="nothing was stored",
                remedy="Look at the logs of Dask's workers (often they have too little memory), "
                "and start again",
            ) from error
        if isinstance(result, DcmError):
            raise result
        return result


def _remove_used(parts: Sequence[Part]) -> None:
    """Removes the scratch files of which no molecule is still to be written."""
    for part in parts:
        if part.stop == part.piece.n_molecules:
            part.piece.path.unlink()


@contextmanager
def _client(address: str, workers: int, folder: Path) -> Iterator[Client]:
    with extra("dask", "ingest on Dask"):
        from distributed import Client, LocalCluster
    with ExitStack() as stack:
        scheduler: Any = address
        if address == LOCAL:
            scheduler = stack.enter_context(
                LocalCluster(
                    n_workers=workers,
                    threads_per_worker=1,
                    dashboard_address=None,
                    local_directory=str(folder / "dask"),
                )
            )
        try:
            client = stack.enter_context(Client(scheduler, timeout=_CONNECT_SECONDS))
            client.wait_for_workers(1, timeout=_CONNECT_SECONDS)
        except (OSError, ValueError, TimeoutError) as error:
            raise StoreError.of(
                f"Dask scheduler {address}",
                wrong=f"no scheduler with a worker answers: {str(error) or type(error).__name__}",
                consequence="nothing was stored",
                remedy="Check the address, and that 'dask worker ADDRESS' is running",
            ) from error
        yield client
