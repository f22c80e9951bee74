"""Ids that molecules share, found by hashes, which take less memory than the ids."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import pandas as pd
from jaxtyping import Shaped, UInt64

from pipeline.store.base import Store
from pipeline.store.splits import identities
from store_schema import StoreSchema

Hashes: TypeAlias = UInt64[np.ndarray, " molecule"]


def hash_of_ids(ids: Shaped[np.ndarray, " molecule"]) -> Hashes:
    """Returns a hash of each id, the same in every process, which Python's own is not."""
    return pd.util.hash_array(ids, categorize=False)


class RepeatedIds:
    """Counts the molecules of an ingest whose id another one has, of those or of the store."""

    def __init__(self, store: Store, schema: StoreSchema | None) -> None:
        """Takes the ids of what is stored.

        Args:
            store: Store that molecules are added to.
            schema: Its schema; None where it is new.
        """
        named = identities(store, schema) if schema else ()
        self._hashes = [np.empty(0, np.uint64), *(hash_of_ids(np.array(n, object)) for n in named)]
        self._before = self._repeated()

    def add(self, hashes: Hashes) -> None:
        """Takes the ids of further molecules, by their hashes."""
        self._hashes.append(hashes)

    def count(self) -> int:
        """Returns how many of the added molecules have an id that came before."""
        return self._repeated() - self._before

    def _repeated(self) -> int:
        every = np.concatenate(self._hashes)
        return len(every) - len(np.unique(every))
