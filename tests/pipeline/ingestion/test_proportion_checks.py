"""Monopoles and dipoles of single molecules that are not to each other as in the others."""

import numpy as np
import pytest

from pipeline import ingest
from pipeline.sample import sample_sources

CLASSIC, *_ = sample_sources()


def stored(folder, columns):
    np.savez(folder / "a.npz", **columns)
    return ingest([folder / "a.npz"], folder / "a.zarr")


def columns(*dropped):
    with np.load(CLASSIC) as raw:
        return {key: raw[key][:80].copy() for key in raw.files if key not in ("D", *dropped)}


def polar(columns, n=3):
    """Rows of the molecules with the largest dipoles."""
    return np.argsort(-np.linalg.norm(columns["Dxyz"], axis=1))[:n]


@pytest.mark.parametrize("factor", [4.80320, -1.0, 0.2])
def test_dipoles_in_another_unit_are_set_aside_without_an_esp(tmp_path, factor):
    some = columns("esp", "vdw_surface", "n_grid")
    some["Dxyz"][polar(some)] *= factor
    report = stored(tmp_path, some)
    assert report.n_quarantined == 3
    assert all("times that of its monopoles" in reason for reason in report.reasons)


def test_molecules_without_monopoles_are_sound(tmp_path):
    some = columns()
    some["mono"][polar(some)] = np.nan
    assert stored(tmp_path, some).n_quarantined == 0


@pytest.mark.parametrize("dropped", [(), ("Dxyz",)])
@pytest.mark.parametrize("factor", [0.3, 3.0])
def test_so_are_monopoles_of_another_size(tmp_path, factor, dropped):
    some = columns()
    rows = polar(some)
    some["mono"][rows] *= factor
    if dropped:
        del some["Dxyz"]
    report = stored(tmp_path, some)
    assert report.n_quarantined == 3
    assert all("its monopoles" in reason for reason in report.reasons)
