"""Molecules on their way into the folder of a store.

A store appears by the rename of a complete folder. An append stages its shards
next to the store, moves them in beyond the published extents, and then replaces
the root ``zarr.json``; before that a reader sees the store as it was.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np

from pipeline.files import exclusive, staging_folder
from pipeline.store.layout import Compression
from pipeline.store.metadata import (
    Node,
    arrays_of,
    extend,
    group_node,
    read_nodes,
    root_node,
    write_node,
)
from pipeline.store.table import TableWriter, Values
from store_schema import StoreSchema, Variable
from store_schema.names import MOLECULE, QUARANTINE_DIMENSIONS, QUARANTINE_GROUP
from store_schema.problems import StoreError

QUARANTINE_REASON = Variable(
    "reason", (QUARANTINE_DIMENSIONS[MOLECULE],), "str", "none", "why it was set aside"
)


class StoreWriter:
    """Writes molecules into a new store, or behind those of one that exists.

    Used as a context manager. Nothing is visible before ``commit``, and nothing
    stays behind when the block is left without it.
    """

    def __init__(
        self,
        folder: Path,
        variables: Sequence[Variable],
        sizes: Mapping[str, int],
        *,
        append: bool = False,
        compression: Compression = "lz4",
    ) -> None:
        """Notes what will be written.

        Args:
            folder: Folder of the store.
            variables: Variables that will be written.
            sizes: Upper bounds of the dimensions but ``molecule``; the store will be as
                long as what was written.
            append: Extend a store that exists instead of making one.
            compression: Codec of new arrays.
        """
        self._store = folder
        self._given = (tuple(variables), dict(sizes))
        self._append = append
        self._compression: Compression = compression
        self._exit = ExitStack()
        self._quarantine: TableWriter | None = None

    def __enter__(self) -> Self:
        """Takes the lock and prepares the staging folder.

        Raises:
            StoreError: The store exists (or does not, in an append), or another writer
                is at work on it.
        """
        with ExitStack() as entered:
            self._staging = entered.enter_context(staging_folder(self._store))
            # Left before the folder goes, so that nothing is written into it any more.
            self._executor = entered.enter_context(ThreadPoolExecutor(1))
            if self._append:
                self._nodes = read_nodes(self._store)
                entered.enter_context(exclusive(self._store, wait=False))
                self._nodes = read_nodes(self._store)
            elif self._store.exists():
                raise _already_there(self._store)
            else:
                self._nodes = {}
            self._molecules = self._table("", *self._given)
            if QUARANTINE_GROUP in self._nodes:
                self._open_quarantine()
            self._exit = entered.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._exit.close()

    @property
    def folder(self) -> Path:
        """Folder of the store."""
        return self._store

    @property
    def molecules(self) -> TableWriter:
        """The table of the molecules."""
        return self._molecules

    @property
    def n_molecules(self) -> int:
        """Molecules of the store, those written so far included."""
        return self._molecules.n_rows

    @property
    def n_quarantined(self) -> int:
        """Molecules set aside, those written so far included."""
        return self._quarantine.n_rows if self._quarantine else 0

    @property
    def variables(self) -> tuple[Variable, ...]:
        """Variables of the root group."""
        return tuple(self._molecules.variables.values())

    @property
    def lengths(self) -> dict[str, int]:
        """Length of each dimension but ``molecule``, so far."""
        return dict(self._molecules.lengths)

    def write(self, n_molecules: int, values: Values) -> None:
        """Takes a block of molecules in canonical units; see ``TableWriter.write``."""
        self._molecules.write(n_molecules, values)

    def quarantine(self, values: Values, reasons: Sequence[str]) -> None:
        """Sets molecules aside, whole and with the reason of each."""
        if self._quarantine is None:
            self._open_quarantine()
        assert self._quarantine is not None
        column = np.array(list(reasons), dtype=object)
        self._quarantine.write(len(column), {**values, QUARANTINE_REASON.name: column})

    def commit(self, schema: StoreSchema) -> None:
        """Publishes everything written, with the schema that describes it."""
        nodes: dict[str, Node] = dict(self._nodes)
        nodes |= self._molecules.finish()
        if self._quarantine is not None:
            nodes[QUARANTINE_GROUP] = group_node()
            for name, array in self._quarantine.finish().items():
                nodes[f"{QUARANTINE_GROUP}/{name}"] = array
        # Results of earlier analyses become as long as the molecules they belong to.
        nodes = extend(nodes, {MOLECULE: self.n_molecules, **self.lengths})
        root = root_node({**schema.to_attributes(), "coordinates": "molecule_id"}, nodes)
        target = self._store if self._append else self._staging
        for path, node in nodes.items():
            if node != self._nodes.get(path):
                write_node(target / path, node)
        write_node(target, root)
        if not self._append:
            self._staging.rename(self._store)

    def _open_quarantine(self) -> None:
        variables = [_quarantined(variable) for variable in self.variables]
        sizes = {QUARANTINE_DIMENSIONS.get(d, d): n for d, n in self._given[1].items()}
        self._quarantine = self._table(QUARANTINE_GROUP, (*variables, QUARANTINE_REASON), sizes)

    def _table(
        self, group: str, variables: Sequence[Variable], sizes: Mapping[str, int]
    ) -> TableWriter:
        return TableWriter(
            self._staging / group,
            variables,
            sizes,
            self._compression,
            target=self._store / group if self._append else None,
            committed=arrays_of(self._nodes, group),
            executor=self._executor,
        )


def _quarantined(variable: Variable) -> Variable:
    """A variable of the quarantine group, whose dimensions are its own."""
    dims = tuple(QUARANTINE_DIMENSIONS.get(dim, dim) for dim in variable.dims)
    return Variable(variable.name, dims, variable.dtype, variable.quantity, variable.description)


def _already_there(store: Path) -> StoreError:
    return StoreError.of(
        str(store),
        wrong="there is a file or folder of this name already",
        consequence="it is left as it is",
        remedy="Choose another name, or add to the store with --append",
    )
