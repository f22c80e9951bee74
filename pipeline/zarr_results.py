"""Results of an analysis, written into the store as a group of their own."""

from __future__ import annotations

import mmap
import re
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import xarray as xr
from jaxtyping import Bool, Int

from pipeline.changes import change, published_nodes, scratch_folder, store_place
from pipeline.zarr_layout import MOLECULES_PER_BLOCK, Compression
from pipeline.zarr_metadata import (
    Document,
    arrays_of,
    extend,
    group_document,
    read_document,
    read_nodes,
    root_document,
    write_document,
)
from pipeline.zarr_table import TableWriter, Values, dimension_lengths, n_rows
from store_schema import RESULT_VARIABLES, VARIABLES
from store_schema.names import MOLECULE, RESULTS_GROUP, Variable
from store_schema.problems import StoreError

_NAME = re.compile(r"[\w][\w.+-]*")
# Written bytes of waiting rows that may be in memory.
_MAX_RESIDENT = 64 * 2**20


class ResultsWriter:
    """Writes the group ``results/NAME``, visible whole or not at all.

    Rows may come in any order, as batches do; they wait in memory-mapped files until
    the commit streams them into the store. Rows that never came are NaN there and take
    no space. Two analyses at once both arrive: the commits wait for each other. What
    waits is kept out of memory, however much it is.
    """

    def __init__(
        self,
        store: str | Path,
        name: str,
        variables: Sequence[Variable],
        sizes: Mapping[str, int],
        attributes: Mapping[str, Any],
        *,
        overwrite: bool = False,
        coordinates: Sequence[str] = (),
        compression: Compression = "lz4",
    ) -> None:
        """Notes what will be written.

        Args:
            store: Path or URL of the store.
            name: Name of the group: letters, digits and ``._+-``.
            variables: Variables of the group, with ``molecule`` first.
            sizes: Lengths of dimensions that the store does not have, such as ``dcm``.
            attributes: Attributes of the group.
            overwrite: Replace a group of this name.
            coordinates: Variables that are coordinates, such as the split.
            compression: Codec of the arrays.

        Raises:
            ConfigError: It is a URL, and the extra ``cloud`` is not installed.
            StoreError: There is no store, the name is not one, or it is taken.
        """
        self._store = store_place(store)
        self._path = f"{RESULTS_GROUP}/{name}"
        self._overwrite = overwrite
        self._compression: Compression = compression
        nodes = published_nodes(self._store)
        self._check_name(name, nodes)
        molecules = arrays_of(nodes, "")
        self._n_molecules = n_rows(molecules)
        self._sizes = {**sizes, **dimension_lengths(molecules)}
        self._variables = {v.name: v for v in variables}
        self._attributes = dict(attributes)
        if coordinates:
            self._attributes["coordinates"] = " ".join(coordinates)
        self._columns: dict[str, np.ndarray] = {}
        self._resident = 0
        self._written: dict[str, Bool[np.ndarray, " molecule"]] = {}
        self._exit = ExitStack()

    def __enter__(self) -> Self:
        scratch = scratch_folder(self._store, self._path.replace("/", "."))
        self._staging = self._exit.enter_context(scratch)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._columns.clear()  # closes the memory maps
        self._exit.close()

    def write(self, rows: Int[np.ndarray, " row"] | int, values: Values) -> None:
        """Takes results of some molecules, in any order.

        Args:
            rows: Indices of the molecules in the store, or the first of consecutive ones.
            values: Arrays by variable; long axes may be shorter than the store's, the rest
                is NaN.

        Raises:
            ValueError: A variable is not of this group, or wider than the store.
        """
        for name, array in values.items():
            index = np.arange(rows, rows + len(array)) if isinstance(rows, int) else rows
            variable = self._variables[name]
            column = self._column(variable)
            if array.ndim != column.ndim or any(np.greater(array.shape[1:], column.shape[1:])):
                raise ValueError(f"{name} is {array.shape}, the store has {column.shape}")
            if array.shape[1:] != column.shape[1:]:
                whole = np.full((len(array), *column.shape[1:]), variable.fill_value, column.dtype)
                whole[(slice(None), *map(slice, array.shape[1:]))] = array
                array = whole  # noqa: PLW2901
            column[index] = array
            self._written[name][index] = True
            self._resident += array.nbytes
        if self._resident > _MAX_RESIDENT:
            self._release()

    def staged(self, names: Sequence[str]) -> xr.Dataset:
        """Returns variables as they have been written so far, of full molecule length."""
        rows = {name: self._rows(0, self._n_molecules, [name]) for name in names}
        return xr.Dataset(
            {name: (self._variables[name].dims, row[name]) for name, row in rows.items() if row}
        )

    def commit(self, attributes: Mapping[str, Any] | None = None) -> None:
        """Publishes the group.

        Args:
            attributes: Of the group, besides those given before.
        """
        self._attributes |= dict(attributes or {})
        table = TableWriter(
            self._staging / "group",
            list(self._variables.values()),
            self._sizes,
            self._compression,
            rows=self._n_molecules,
        )
        for start in range(0, self._n_molecules, MOLECULES_PER_BLOCK):
            stop = min(start + MOLECULES_PER_BLOCK, self._n_molecules)
            table.write(stop - start, self._rows(start, stop, list(self._columns)))
            self._release()
        documents = table.finish()
        with change(self._store) as changed:
            self._withdraw(changed.folder)
            changed.publish()  # the old group goes before the new one comes
            self._place(changed.folder, documents)
            changed.publish()

    def _rows(self, start: int, stop: int, names: Sequence[str]) -> dict[str, np.ndarray]:
        rows = {}
        for name in names:
            if name not in self._columns:
                continue
            column = self._columns[name]
            written = self._written[name][start:stop]
            if written.any():
                rows[name] = np.array(column[start:stop])
                rows[name][~written] = self._variables[name].fill_value
        return rows

    def _release(self) -> None:
        """Lets go of the pages of the memory-mapped files; the files keep what was written."""
        for column in self._columns.values():
            if isinstance(column.base, mmap.mmap):
                column.base.madvise(mmap.MADV_DONTNEED)
        self._resident = 0

    def _withdraw(self, folder: Path) -> None:
        """Takes a group of this name out of the store."""
        nodes = read_nodes(folder)
        self._check_name(self._path.split("/")[1], nodes)
        others = {
            path: document
            for path, document in nodes.items()
            if path != self._path and not path.startswith(f"{self._path}/")
        }
        if len(others) < len(nodes):
            attributes = read_document(folder)["attributes"]
            write_document(folder, root_document(attributes, others))
        with suppress(FileNotFoundError):  # aside at once; it goes with the staging folder
            (folder / self._path).rename(self._staging / "replaced")

    def _place(self, folder: Path, documents: Mapping[str, Document]) -> None:
        """Moves the group in and replaces the root's metadata."""
        nodes = read_nodes(folder)
        molecules = arrays_of(nodes, "")
        lengths = {MOLECULE: n_rows(molecules), **dimension_lengths(molecules)}
        group = extend(
            {
                self._path: group_document(self._attributes),
                **{f"{self._path}/{name}": document for name, document in documents.items()},
            },
            lengths,
        )
        staged = self._staging / "group"
        for path, document in group.items():
            write_document(staged / path.removeprefix(self._path).lstrip("/"), document)
        write_document(folder / RESULTS_GROUP, group_document())
        staged.rename(folder / self._path)
        attributes = read_document(folder)["attributes"]
        results = {RESULTS_GROUP: group_document()}
        write_document(folder, root_document(attributes, {**nodes, **results, **group}))

    def _column(self, variable: Variable) -> np.ndarray:
        """Where the rows of a variable wait; a sparse file, or memory for text."""
        if variable.name not in self._columns:
            shape = (self._n_molecules, *(self._sizes[dim] for dim in variable.dims[1:]))
            if variable.dtype == "str" or 0 in shape:
                dtype = object if variable.dtype == "str" else variable.dtype
                column = np.full(shape, variable.fill_value, dtype=dtype)
            else:
                column = np.memmap(
                    self._staging / variable.name, dtype=variable.dtype, mode="w+", shape=shape
                )
            self._columns[variable.name] = column
            self._written[variable.name] = np.zeros(self._n_molecules, dtype=bool)
        return self._columns[variable.name]

    def _check_name(self, name: str, nodes: Mapping[str, Document]) -> None:
        if not _NAME.fullmatch(name):
            raise StoreError.of(
                f"{self._store}, results group",
                expected="a name of letters, digits and ._+-",
                received=repr(name),
                consequence="nothing was written",
                remedy="Choose such a name",
            )
        if self._path in nodes and not self._overwrite:
            raise StoreError.of(
                f"{self._store}, group {self._path}",
                expected="no results of this name",
                received="a group that exists",
                consequence="it is left as it is",
                remedy="Choose another name, or replace it with overwrite (--overwrite)",
            )


def write_results(
    store: str | Path, name: str, dataset: xr.Dataset, overwrite: bool = False
) -> None:
    """Writes a dataset of full molecule length as the group ``results/NAME``.

    Args:
        store: Path or URL of the store.
        name: Name of the group.
        dataset: Its variables have ``molecule`` first; names of
            ``store_schema.RESULT_VARIABLES`` get their units from there.
        overwrite: Replace a group of this name.

    Raises:
        StoreError: There is no store, the name is not one, or it is taken.
    """
    variables = [_variable(str(key), array) for key, array in dataset.variables.items()]
    sizes = {str(dim): length for dim, length in dataset.sizes.items() if dim != MOLECULE}
    coordinates = [str(key) for key in dataset.coords]
    with ResultsWriter(
        store, name, variables, sizes, dataset.attrs, overwrite=overwrite, coordinates=coordinates
    ) as writer:
        writer.write(0, {v.name: dataset[v.name].to_numpy() for v in variables})
        writer.commit()


def _variable(name: str, array: xr.Variable) -> Variable:
    known = RESULT_VARIABLES.get(name) or VARIABLES.get(name)
    if known is not None and known.dims == array.dims:
        return known
    dtype = array.dtype.name if array.dtype.kind in "iufb" else "str"
    description = str(array.attrs.get("description", ""))
    return Variable(name, tuple(map(str, array.dims)), dtype, "none", description)
