"""Batches of several stores in turn, by a ratio."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import grain
import numpy as np
from jaxtyping import Int

from pipeline.loader.batch import MoleculeBatch
from pipeline.loader.dataset import BatchDataset
from store_schema.problems import CheckpointError


class MixedDataset(grain.IterDataset[MoleculeBatch]):
    """Batches of several loaders without end, evenly interleaved.

    An epoch has each batch of the first loader once, and of the others as many as their ratio
    to the first asks for: less than one pass over a large store, or several over a small one.
    Each loader continues where it was, so that its molecules come equally often. Rows of a
    loader's molecules are counted from the end of those of the loaders before it.
    """

    def __init__(
        self, loaders: Sequence[BatchDataset], ratio: Sequence[float], sizes: Sequence[int]
    ) -> None:
        """Plans an epoch.

        Args:
            loaders: Loaders without an end, of at least one batch per epoch.
            ratio: Batches of each, in proportion.
            sizes: Molecules of each loader's store.
        """
        super().__init__()
        self._loaders = tuple(loaders)
        self._offsets = np.cumsum([0, *sizes[:-1]])
        first = loaders[0].batches_per_epoch
        counts = [max(1, round(first * share / ratio[0])) for share in ratio]
        due = [(np.arange(count) + 0.5) / count for count in counts]
        which = np.repeat(np.arange(len(counts)), counts)
        self.order: Int[np.ndarray, " step"] = which[np.argsort(np.concatenate(due), kind="stable")]

    @property
    def batches_per_epoch(self) -> int:
        """Batches of an epoch, of all loaders."""
        return len(self.order)

    @property
    def padding_waste(self) -> float:
        """Share of the bytes of an epoch's batches that is padding, about."""
        counts = np.bincount(self.order, minlength=len(self._loaders))
        wastes = [loader.padding_waste for loader in self._loaders]
        return float(np.average(wastes, weights=counts))

    def __len__(self) -> int:
        """Returns the batches of an epoch."""
        return self.batches_per_epoch

    def __iter__(self) -> MixedIterator:
        """Returns an iterator from the first batch; `set_state` takes it elsewhere."""
        return MixedIterator([iter(each) for each in self._loaders], self.order, self._offsets)


class MixedIterator(grain.DatasetIterator[MoleculeBatch]):
    """Iterates over batches; its state is a step of the epoch, and the states of the loaders."""

    def __init__(
        self,
        iterators: Sequence[Any],
        order: Int[np.ndarray, " step"],
        offsets: Int[np.ndarray, " loader"],
    ) -> None:
        """Begins at the first batch.

        Args:
            iterators: Of each loader.
            order: Loader of each step of an epoch.
            offsets: What is added to the rows of each loader's molecules.
        """
        super().__init__()
        self._iterators, self._order, self._offsets = iterators, order, offsets
        self._step = 0

    def __next__(self) -> MoleculeBatch:
        """Returns the next batch.

        Raises:
            StoreError: A store cannot be read.
        """
        which = self._order[self._step]
        batch: MoleculeBatch = next(self._iterators[which])
        self._step = (self._step + 1) % len(self._order)
        rows = batch.molecule_index
        counted_on = (rows + self._offsets[which]).astype(rows.dtype)
        return batch._replace(molecule_index=np.where(rows >= 0, counted_on, rows))

    def get_state(self) -> dict[str, Any]:
        """Returns where the iterator is, in the epoch and in each loader."""
        states = [iterator.get_state() for iterator in self._iterators]
        return {"mixed_step": self._step, "loaders": states}

    def set_state(self, state: dict[str, Any]) -> None:
        """Goes to the batch that came next when the state was taken.

        Raises:
            CheckpointError: The state is of other loaders.
        """
        states, step = state.get("loaders", []), int(state.get("mixed_step", -1))
        if len(states) != len(self._iterators) or not 0 <= step < len(self._order):
            raise CheckpointError.of(
                f"batch {step} of {len(states)} stores",
                wrong=f"this is a state of another run, not of {len(self._iterators)} stores and "
                f"{len(self._order)} batches",
                consequence="the same batches cannot follow",
                remedy="Resume with the stores, ratio and batch size of that run",
            )
        for iterator, own in zip(self._iterators, states, strict=True):
            iterator.set_state(own)
        self._step = step

    def close(self) -> None:
        """Closes the iterators of all loaders."""
        for iterator in self._iterators:
            iterator.close()
        super().close()
