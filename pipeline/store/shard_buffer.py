"""Rows on their way to a shard, in memory that is used again for the next one."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from store_schema.names import Variable


class ShardBuffer:
    """Rows of every variable of a table, until they make a shard.

    Attributes:
        n_rows: Rows taken so far.
    """

    def __init__(
        self, variables: Mapping[str, Variable], bounds: Mapping[str, tuple[int, ...]], rows: int
    ) -> None:
        """Notes sizes; memory is only taken where something is written.

        Args:
            variables: Variables by name.
            bounds: Upper bounds of their lengths behind the first axis.
            rows: Rows of a whole shard.
        """
        self._variables, self._bounds, self._rows = variables, bounds, rows
        self._arrays: dict[str, np.ndarray] = {}
        self._parts: dict[str, list[tuple[slice, tuple[int, ...]]]] = {}
        self.n_rows = 0

    def take(self, n_rows: int, values: Mapping[str, np.ndarray]) -> None:
        """Takes the next rows; variables may be absent, and long axes shorter than the bounds.

        Raises:
            ValueError: An array is wider than its bounds.
        """
        rows = slice(self.n_rows, self.n_rows + n_rows)
        for name, array in values.items():
            bounds, widths = self._bounds[name], array.shape[1:]
            if any(width > bound for width, bound in zip(widths, bounds, strict=True)):
                raise ValueError(f"{name} is {widths} wide, its array was created with {bounds}")
            if name not in self._arrays:
                dtype = self._variables[name].dtype
                shape = (self._rows, *bounds)
                self._arrays[name] = np.empty(shape, dtype=object if dtype == "str" else dtype)
            self._arrays[name][(rows, *map(slice, widths))] = array
            self._parts.setdefault(name, []).append((rows, widths))
        self.n_rows += n_rows

    def filled(self, name: str) -> np.ndarray | None:
        """Returns the rows of a variable, filled where nothing was written; None without any."""
        parts = self._parts.get(name)
        if not parts:
            return None
        widths = tuple(max(lengths) for lengths in zip(*(part[1] for part in parts), strict=True))
        array = self._arrays[name][(slice(self.n_rows), *map(slice, widths))]
        fill = self._variables[name].fill_value
        stop = 0
        for rows, lengths in parts:
            array[stop : rows.start] = fill
            for axis, (length, width) in enumerate(zip(lengths, widths, strict=True)):
                if length < width:
                    array[(rows, *[slice(None)] * axis, slice(length, None))] = fill
            stop = rows.stop
        array[stop:] = fill
        return array

    def clear(self) -> None:
        """Forgets the rows, and keeps the memory for the next ones."""
        self._parts, self.n_rows = {}, 0
