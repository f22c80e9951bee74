"""Sizes of a store's molecules, their pairs included: all that planning needs."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from jaxtyping import Int32

from pipeline.loader.pairs import count_pairs
from pipeline.loader.reader import StoreReader
from pipeline.store.base import Store
from store_schema import StoreSchema

# Molecules whose positions are read at once, and how many of like size are
# compared at once.
_READ = 8192
_GROUP = 512


def count_store_pairs(
    store: Store, schema: StoreSchema, cutoff: float
) -> Int32[np.ndarray, " molecule"]:
    """Counts the pairs of every molecule in one pass over the positions.

    Args:
        store: The store.
        schema: Schema of the store; the counts are kept for it.
        cutoff: Distance in Å.

    Returns:
        Pairs of each molecule; not to be written to.
    """
    return _count(store, schema.model_dump_json(), cutoff)


# The loaders of a run, of training and of validation, share one count.
@lru_cache(maxsize=4)
def _count(store: Store, _schema: str, cutoff: float) -> Int32[np.ndarray, " molecule"]:
    reader = StoreReader(store, ("positions",))
    n_molecules = reader.schema.n_molecules
    counts = np.zeros(n_molecules, np.int32)
    memory = reader.allocate(min(_READ, n_molecules), int(reader.n_atoms.max(initial=1)), 0)
    for start in range(0, n_molecules, _READ):
        rows = np.arange(start, min(start + _READ, n_molecules))
        positions = reader.read(rows, memory).fields["positions"][: len(rows)]
        by_size = np.argsort(reader.n_atoms[rows], kind="stable")
        for group in np.split(by_size, range(_GROUP, len(rows), _GROUP)):
            n_atoms = reader.n_atoms[rows[group]]
            A = int(n_atoms.max(initial=1))
            mask = np.arange(A) < n_atoms[:, None]
            counts[rows[group]] = count_pairs(positions[group, :A], mask, cutoff)
    counts.setflags(write=False)
    return counts
