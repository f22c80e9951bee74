"""Stores and experiments that were damaged, or made to harm, end in one line or a right result."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline import ingest
from tests.hostile import copied, mutate, outcome

STORES, EXPERIMENTS = 60, 5
MANY = 1500
WATER = "3\nwater charge=0\nO 0 0 0.12\nH 0 0.76 -0.48\nH 0 -0.76 -0.48\n"


@pytest.fixture(scope="module")
def small_store(tmp_path_factory):
    """A few molecules, with one in quarantine."""
    from pipeline.sample import sample_sources

    with np.load(sample_sources()[0]) as raw:
        columns = {key: raw[key][:12].copy() for key in raw.files}
    columns["R"][3, 1] = columns["R"][3, 0]  # two atoms in one place
    folder = tmp_path_factory.mktemp("hostile")
    np.savez(folder / "a.npz", **columns)
    ingest([folder / "a.npz"], folder / "a.zarr")
    return folder / "a.zarr"


def try_store(small_store, tmp_path, seeds):
    for seed in seeds:
        rng = np.random.default_rng(seed)
        store = copied(small_store, tmp_path / "a.zarr")
        done = mutate(store, rng)
        for command in (["inspect"], ["validate"], ["bench", "--seconds", "0.1"]):
            try:
                outcome(command[0], store, *command[1:])
            except Exception as error:
                error.add_note(f"seed {seed}: {done}, {command[0]}")
                raise


def try_experiment(trained, small_store, tmp_path, seeds):
    structure = tmp_path / "water.xyz"
    structure.write_text(WATER)
    for seed in seeds:
        rng = np.random.default_rng(seed)
        experiment = copied(trained[2], tmp_path / "trial")
        done = mutate(experiment, rng)
        out = ("--out", tmp_path / "out.xyz", "--overwrite")
        for command in (["predict", experiment, structure, *out], ["report", experiment]):
            try:
                outcome(*command)
            except Exception as error:
                error.add_note(f"seed {seed}: {done}, {command[0]}")
                raise


@pytest.mark.parametrize("part", range(2))
def test_a_damaged_store_is_one_line_or_right(small_store, tmp_path, part):
    try_store(small_store, tmp_path, range(part, STORES, 2))


def test_a_damaged_experiment_is_one_line_or_right(trained, small_store, tmp_path):
    try_experiment(trained, small_store, tmp_path, range(EXPERIMENTS))


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_many_damaged_stores_and_experiments(trained, small_store, tmp_path):
    try_store(small_store, tmp_path, range(STORES, MANY))
    try_experiment(trained, small_store, tmp_path, range(EXPERIMENTS, MANY // 4))
