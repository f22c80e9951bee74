"""Loaders stream while molecules are appended and results written: always right values."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from threading import Event

import numpy as np
import pytest
import xarray as xr

from pipeline import ingest, make_loader, open_store
from pipeline.sample import sample_sources
from pipeline.store.results import write_results

READERS, FIRST, PIECE, PIECES = 4, 30, 10, 2


@pytest.fixture
def pieces(tmp_path):
    """Files that become one store, one after the other."""
    with np.load(sample_sources()[0]) as raw:
        columns = {key: raw[key] for key in raw.files}
    edges = [0, *(FIRST + PIECE * piece for piece in range(PIECES + 1))]
    paths = []
    for low, high in pairwise(edges):
        paths.append(tmp_path / f"{low:03d}.npz")
        np.savez(paths[-1], **{key: values[low:high] for key, values in columns.items()})
    return paths


def grow(store, paths):
    for index, path in enumerate(paths):
        ingest([path], store, append=index > 0)


def read_all(store, truth, *, preload):
    """Streams an epoch, and compares each molecule with what it must be; how many there were."""
    loader = make_loader(store, split="all", batch_size=8, preload=preload, prefetch=0)
    seen = []
    for batch in loader:
        for slot in np.flatnonzero(batch.molecule_mask):
            row = int(batch.molecule_index[slot])
            seen.append(row)
            for name, mask in (("positions", batch.atom_mask), ("esp", batch.grid_mask)):
                values = getattr(batch, name)[slot][mask[slot]]
                expected = truth[name][row]
                np.testing.assert_array_equal(values, expected[: len(values)])
                assert np.isnan(expected[len(values) :]).all()
    assert sorted(seen) == list(range(len(seen)))
    return len(seen)


def test_readers_beside_writers_see_what_was_published(pieces, tmp_path):
    whole, store = tmp_path / "whole.zarr", tmp_path / "a.zarr"
    grow(whole, pieces)
    dataset = open_store(whole).to_dataset()
    truth = {name: dataset[name].to_numpy() for name in ("positions", "esp")}
    published = {FIRST + PIECE * piece for piece in range(PIECES + 1)}
    ingest([pieces[0]], store)
    ended = Event()

    def reader(number):
        counts = []
        while not ended.is_set() or not counts:
            counts.append(read_all(store, truth, preload=number % 2 == 0))
        return counts

    with ThreadPoolExecutor(READERS) as pool:
        readers = [pool.submit(reader, number) for number in range(READERS)]
        try:
            for piece in pieces[1:]:
                ingest([piece], store, append=True)
                n = len(open_store(store).to_dataset().positions)
                errors = xr.Dataset({"esp_rmse": ("molecule", np.arange(n, dtype="f4"))})
                write_results(store, "errors", errors, overwrite=True)
        finally:
            ended.set()
        counts = [found for future in readers for found in future.result()]
    assert set(counts) <= published
    assert len(counts) > READERS
    assert read_all(store, truth, preload=False) == max(published)
