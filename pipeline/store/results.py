"""Results of an analysis, written into the store as a group of their own."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import xarray as xr
import zarr
from jaxtyping import Bool, Int

from pipeline.store.base import Store, StoreLike
from pipeline.store.layout import MOLECULES_PER_BLOCK, Compression, create_small_array
from pipeline.store.metadata import (
    ArrayNode,
    Node,
    arrays_of,
    extend,
    group_node,
    nodes_of,
    read_array_node,
    read_root,
    root_node,
    write_node,
)
from pipeline.store.table import TableWriter, Values, dimension_lengths, n_rows
from store_schema import RESULT_VARIABLES, VARIABLES
from store_schema.names import ATOM, GRID_POINT, MOLECULE, RESULTS_GROUP, Variable
from store_schema.problems import StoreError

_NAME = re.compile(r"[\w][\w.+-]*")


class ResultsWriter:
    """Writes the group ``results/NAME``, visible whole or not at all.

    Rows may come in any order; those of atoms and points wait in memory until their block
    and all before it are whole, and a thread writes shards meanwhile. Rows that never came
    are NaN and take no space. Two analyses at once both arrive: the commits wait for each
    other.
    """

    def __init__(
        self,
        store: StoreLike,
        name: str,
        variables: Sequence[Variable],
        sizes: Mapping[str, int],
        attributes: Mapping[str, Any],
        *,
        overwrite: bool = False,
        coordinates: Sequence[str] = (),
        expected: Bool[np.ndarray, " molecule"] | None = None,
        compression: Compression = "lz4",
    ) -> None:
        """Notes what will be written.

        Args:
            store: The store, or its path or URL.
            name: Name of the group: letters, digits and ``._+-``.
            variables: Variables of the group, with ``molecule`` first.
            sizes: Lengths of dimensions that the store does not have, such as ``dcm``.
            attributes: Attributes of the group.
            overwrite: Replace a group of this name.
            coordinates: Variables that are coordinates, such as the split.
            expected: Molecules that come, each once with all that it has. Where it is left
                out, everything waits for the commit.
            compression: Codec of the arrays.

        Raises:
            ConfigError: It is a URL, and the extra ``cloud`` is not installed.
            StoreError: There is no store, the name is not one, or it is taken.
        """
        self._store = Store.at(store)
        self._path = f"{RESULTS_GROUP}/{name}"
        self._overwrite = overwrite
        self._compression: Compression = compression
        nodes = self._store.nodes()
        self._check_name(name, nodes)
        molecules = arrays_of(nodes, "")
        self._n_molecules = n_rows(molecules)
        self._sizes = {**sizes, **dimension_lengths(molecules)}
        self._variables = {v.name: v for v in variables}
        self._attributes = dict(attributes)
        if coordinates:
            self._attributes["coordinates"] = " ".join(coordinates)
        # What has neither atoms nor points is small, and kept whole.
        self._small: dict[str, np.ndarray] = {}
        self._large = [v for v in variables if {ATOM, GRID_POINT} & {*v.dims}]
        # By block, as they came: rows in it, and their values.
        self._waiting: dict[int, list[tuple[Int[np.ndarray, " row"], Values]]] = {}
        self._next_block = 0
        self._missing = None if expected is None else _by_block(expected)
        self._exit = ExitStack()

    def __enter__(self) -> Self:
        scratch = self._store.scratch(self._path.replace("/", "."))
        self._staging = self._exit.enter_context(scratch)
        # Left before the folder goes, so that nothing is written into it any more.
        self._executor = self._exit.enter_context(ThreadPoolExecutor(1, "dcm-shards"))
        group = zarr.open_group(self._staging / "group", mode="a")
        self._small_arrays = self._executor.submit(self._create_small, group)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._exit.close()

    def write(self, rows: Int[np.ndarray, " row"] | int, values: Values) -> None:
        """Takes results of some molecules, in any order.

        Args:
            rows: Indices of the molecules in the store, or the first of consecutive ones.
            values: Arrays by variable; long axes may be shorter than the store's, the rest
                is NaN.

        Raises:
            ValueError: A variable is wider than the store, or a row came twice that was
                expected once.
        """
        length = max(map(len, values.values()), default=0)
        index = np.arange(rows, rows + length) if isinstance(rows, int) else rows
        if (index >= self._n_molecules).any():
            raise ValueError(f"row {index.max()} is none of the store's {self._n_molecules}")
        block = index // MOLECULES_PER_BLOCK
        if (block < self._next_block).any():
            raise ValueError("a row came twice, or was not expected")
        large = {v.name for v in self._large}
        for name, array in values.items():
            self._check_shape(name, array)
            if name not in large:
                self._of_all(name)[index] = array
        for number in np.unique(block).tolist():
            own = block == number
            part = {name: values[name][own] for name in large & values.keys()}
            place = index[own] - number * MOLECULES_PER_BLOCK
            self._waiting.setdefault(number, []).append((place, part))
            if self._missing is not None:
                self._missing[number] -= own.sum()
        if self._missing is not None:
            while self._next_block < len(self._missing) and not self._missing[self._next_block]:
                self._write_block()

    def written(self) -> xr.Dataset:
        """Returns the variables without atoms or points as they are so far, of all molecules."""
        return xr.Dataset(
            {name: (self._variables[name].dims, array) for name, array in self._small.items()}
        )

    def commit(self, attributes: Mapping[str, Any] | None = None) -> None:
        """Publishes the group.

        Args:
            attributes: Of the group, besides those given before.
        """
        self._attributes |= dict(attributes or {})
        while self._next_block * MOLECULES_PER_BLOCK < self._n_molecules:
            self._write_block()
        documents = self._write_small() | (self._table.finish() if self._large else {})
        with self._store.change() as changed:
            self._withdraw(changed.folder)
            changed.publish()  # the old group goes before the new one comes
            self._place(changed.folder, documents)
            changed.publish()

    @cached_property
    def _table(self) -> TableWriter:
        return TableWriter(
            self._staging / "group",
            self._large,
            self._sizes,
            self._compression,
            executor=self._executor,
            rows=self._n_molecules,
        )

    def _write_block(self) -> None:
        """Writes the next block of rows, as far as they came."""
        rows = min(MOLECULES_PER_BLOCK, self._n_molecules - self._next_block * MOLECULES_PER_BLOCK)
        values: dict[str, np.ndarray] = {}
        for place, part in self._waiting.pop(self._next_block, []):
            for name, array in part.items():
                if name not in values:
                    values[name] = self._filled(self._variables[name], rows)
                where: tuple[Any, ...] = (place, *map(slice, array.shape[1:]))
                values[name][where] = array
        if self._large:
            self._table.write(rows, values)
        self._next_block += 1

    def _create_small(self, group: zarr.Group) -> dict[str, zarr.Array]:
        return {
            variable.name: create_small_array(
                group, variable, self._sizes, self._n_molecules, self._compression
            )
            for variable in self._variables.values()
            if variable not in self._large
        }

    def _write_small(self) -> dict[str, ArrayNode]:
        arrays = self._small_arrays.result()
        for name, values in self._small.items():
            arrays[name][...] = values
        return {name: read_array_node(self._staging / "group" / name) for name in arrays}

    def _of_all(self, name: str) -> np.ndarray:
        if name not in self._small:
            self._small[name] = self._filled(self._variables[name], self._n_molecules)
        return self._small[name]

    def _filled(self, variable: Variable, rows: int) -> np.ndarray:
        shape = (rows, *(self._sizes[dim] for dim in variable.dims[1:]))
        dtype = object if variable.dtype == "str" else variable.dtype
        return np.full(shape, variable.fill_value, dtype=dtype)

    def _check_shape(self, name: str, array: np.ndarray) -> None:
        dims = self._variables[name].dims[1:]
        widths = tuple(self._sizes[dim] for dim in dims)
        if array.ndim != 1 + len(dims) or any(np.greater(array.shape[1:], widths)):
            raise ValueError(f"{name} is {array.shape}, the store has {widths} per molecule")

    def _withdraw(self, folder: Path) -> None:
        """Takes a group of this name out of the store."""
        root = read_root(folder)
        nodes = nodes_of(root, folder)
        self._check_name(self._path.split("/")[1], nodes)
        others = {
            path: node
            for path, node in nodes.items()
            if path != self._path and not path.startswith(f"{self._path}/")
        }
        if len(others) < len(nodes):
            write_node(folder, root_node(root.attributes, others))
        with suppress(FileNotFoundError):  # aside at once; it goes with the staging folder
            (folder / self._path).rename(self._staging / "replaced")

    def _place(self, folder: Path, arrays: Mapping[str, Node]) -> None:
        """Moves the group in and replaces the root's metadata."""
        root = read_root(folder)
        nodes = nodes_of(root, folder)
        molecules = arrays_of(nodes, "")
        lengths = {MOLECULE: n_rows(molecules), **dimension_lengths(molecules)}
        group = extend(
            {
                self._path: group_node(self._attributes),
                **{f"{self._path}/{name}": node for name, node in arrays.items()},
            },
            lengths,
        )
        staged = self._staging / "group"
        for path, node in group.items():
            write_node(staged / path.removeprefix(self._path).lstrip("/"), node)
        write_node(folder / RESULTS_GROUP, group_node())
        staged.rename(folder / self._path)
        results = {RESULTS_GROUP: group_node()}
        write_node(folder, root_node(root.attributes, {**nodes, **results, **group}))

    def _check_name(self, name: str, nodes: Mapping[str, Node]) -> None:
        if not _NAME.fullmatch(name):
            raise StoreError.of(
                f"{self._store}, results group",
                wrong=f"{name!r} is not a name of letters, digits and ._+-",
                consequence="nothing was written",
                remedy="Choose such a name",
            )
        if self._path in nodes and not self._overwrite:
            raise StoreError.of(
                f"{self._store}, group {self._path}",
                wrong="there are results of this name already",
                consequence="it is left as it is",
                remedy="Choose another name, or replace it with overwrite (--overwrite)",
            )


def _by_block(rows: Bool[np.ndarray, " molecule"]) -> Int[np.ndarray, " block"]:
    """Counts the rows of each block."""
    starts = np.arange(0, len(rows), MOLECULES_PER_BLOCK)
    return np.add.reduceat(rows, starts, dtype=np.int64) if starts.size else starts


def write_results(
    store: StoreLike, name: str, dataset: xr.Dataset, overwrite: bool = False
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
    n_molecules = dataset.sizes.get(MOLECULE, 0)
    with ResultsWriter(
        store,
        name,
        variables,
        sizes,
        dataset.attrs,
        overwrite=overwrite,
        coordinates=coordinates,
        expected=np.ones(n_molecules, bool),
    ) as writer:
        for start in range(0, n_molecules, MOLECULES_PER_BLOCK):
            rows = slice(start, start + MOLECULES_PER_BLOCK)
            writer.write(start, {v.name: dataset[v.name][rows].to_numpy() for v in variables})
        writer.commit()


def _variable(name: str, array: xr.Variable) -> Variable:
    known = RESULT_VARIABLES.get(name) or VARIABLES.get(name)
    if known is not None and known.dims == array.dims:
        return known
    dtype = array.dtype.name if array.dtype.kind in "iufb" else "str"
    description = str(array.attrs.get("description", ""))
    return Variable(name, tuple(map(str, array.dims)), dtype, "none", description)
