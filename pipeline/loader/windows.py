"""Windows of a store in memory: the one in use, and the next while it is read."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
from jaxtyping import Int64

from pipeline.loader.buffer import MoleculeBuffer
from pipeline.loader.reader import StoreReader, slots_needed

Key = tuple[int, int]  # epoch, window


class Window(NamedTuple):
    """Molecules that were read together.

    Attributes:
        rows: Rows of the store that were wanted, ascending.
        buffer: What was read.
    """

    rows: Int64[np.ndarray, " n"]
    buffer: MoleculeBuffer


class WindowReader:
    """Reads windows in their order, one ahead, into memory that is used again.

    Two windows are in memory at any time, whatever the size of the store. A window that
    is a whole epoch can be kept for epochs and iterators to come.
    """

    def __init__(
        self,
        reader: StoreReader,
        rows_of: Callable[[Key], Int64[np.ndarray, " n"]],
        after: Callable[[Key], Key | None],
        widths: tuple[int, int],
        kept: list[Window] | None = None,
    ) -> None:
        """Prepares; nothing is read yet.

        Args:
            reader: Store.
            rows_of: Returns the rows of a window, ascending.
            after: Returns the window that follows, None after the last.
            widths: Atoms and grid points that a buffer is wide.
            kept: Where the last window that was read is kept, for readers that share it.
        """
        self._reader, self._rows_of, self._after, self._widths = reader, rows_of, after, widths
        self._kept = kept
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="dcm-window")
        self._current: tuple[Key, Window] | None = None
        self._ahead: tuple[Key, Future[Window]] | None = None

    def get(self, key: Key) -> MoleculeBuffer:
        """Returns a window and begins to read the one after it.

        The buffer that was returned before may be written over.

        Raises:
            StoreError: The store cannot be read.
        """
        if self._current is not None and self._current[0] == key:
            return self._current[1].buffer
        window = self._take(key)
        previous = self._current[1] if self._current else None
        self._current = key, window
        following = self._after(key)
        if following is not None:
            self._ahead = following, self._thread.submit(self._read, following, previous)
        return window.buffer

    def start(self, key: Key) -> None:
        """Begins to read a window that will be wanted first."""
        if self._current is None and self._ahead is None:
            self._ahead = key, self._thread.submit(self._read, key, None)

    def close(self) -> None:
        """Waits for the read under way and frees the windows."""
        self._thread.shutdown(cancel_futures=True)
        self._current = self._ahead = None

    def _take(self, key: Key) -> Window:
        ahead, self._ahead = self._ahead, None
        if ahead is not None:
            # A window that is not the one wanted is waited for, too: its memory is in use.
            window = ahead[1].result()
            if ahead[0] == key:
                return window
        return self._thread.submit(self._read, key, None).result()

    def _read(self, key: Key, spare: Window | None) -> Window:
        """Reads a window, in the memory of a spare one where that is large enough."""
        rows = self._rows_of(key)
        for window in self._kept or ():
            if np.array_equal(rows, window.rows):
                return window
        n = slots_needed(rows)
        # What others may be using is not written over.
        memory = spare.buffer.fields if spare is not None and self._kept is None else {}
        if not memory or any(len(field) < n for field in memory.values()):
            memory = self._reader.allocate(n, *self._widths)
        window = Window(rows, self._reader.read(rows, memory))
        if self._kept is not None:
            self._kept[:] = [window]
        return window
