"""Any sequence of appends, results, failures and reads leaves a store that says what was done."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from pathlib import Path
from unittest import mock

import numpy as np
import xarray as xr
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from pipeline import ingest, open_store
from pipeline.inspection.validate import validate_store
from pipeline.sample import sample_sources
from pipeline.store.results import write_results

PIECE = 6


class Stopped(BaseException):
    """The process ended here, as far as the store can tell."""


class StoreStates(RuleBasedStateMachine):
    """A store, and what must be in it."""

    @initialize()
    def begin(self) -> None:
        self.folder = Path(tempfile.mkdtemp())
        self.store = self.folder / "a.zarr"
        with np.load(sample_sources()[0]) as raw:
            self.columns = {key: raw[key] for key in raw.files}
        self.n, self.results = 0, {}
        self.append()

    def piece(self) -> Path:
        path = self.folder / f"{self.n}.npz"
        np.savez(path, **{k: v[self.n : self.n + PIECE] for k, v in self.columns.items()})
        return path

    @rule()
    def append(self) -> None:
        if self.n + PIECE <= len(self.columns["Z"]):
            ingest([self.piece()], self.store, append=self.n > 0)
            self.n += PIECE

    @rule(name=st.sampled_from(["a", "b"]), value=st.integers(0, 9))
    def write(self, name: str, value: int) -> None:
        errors = xr.Dataset({"esp_rmse": ("molecule", np.full(self.n, value, "f4"))})
        write_results(self.store, name, errors, overwrite=True)
        self.results[name] = np.full(self.n, value)

    @rule(step=st.integers(1, 12), how=st.sampled_from([Stopped, OSError]))
    def fail(self, step: int, how: type[BaseException]) -> None:
        """An append that ends at some step on the file system, for good or with an error."""
        if self.n + PIECE > len(self.columns["Z"]):
            return
        left, replace = step, os.replace

        def dying(*arguments: object, **options: object) -> None:
            nonlocal left
            left -= 1
            if left == 0:
                raise how(errno.EIO, "no more")
            replace(*arguments, **options)  # type: ignore[arg-type]

        try:
            with mock.patch("os.replace", dying):
                ingest([self.piece()], self.store, append=True)
        except (Stopped, OSError):
            pass
        stored = len(open_store(self.store).to_dataset().positions)
        assert stored in (self.n, self.n + PIECE)
        if stored > self.n or left > 0:
            self.n += PIECE

    @invariant()
    def it_says_what_was_done(self) -> None:
        tree = open_store(self.store)
        dataset = tree.to_dataset()
        assert len(dataset.positions) == self.n
        expected = self.columns["E"][: self.n] if "E" in self.columns else None
        if expected is not None and "energy" in dataset:
            np.testing.assert_allclose(dataset.energy, expected.ravel(), rtol=1e-6)
        validation = validate_store(str(self.store))
        assert not validation.problems
        for name, value in self.results.items():
            found = tree[f"results/{name}"].esp_rmse.to_numpy()
            np.testing.assert_array_equal(found[: len(value)], value)
            assert np.isnan(found[len(value) :]).all()  # molecules that came later

    def teardown(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)


TestStoreStates = StoreStates.TestCase
TestStoreStates.settings = settings(max_examples=4, stateful_step_count=6, deadline=None)
