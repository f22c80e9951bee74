"""Moments of single molecules that are not those of their ESP, or of no molecule, are set aside."""

import numpy as np
import pytest

from pipeline import ingest
from pipeline.sample import sample_sources
from store_schema.problems import SourceError

CLASSIC, *_ = sample_sources()


def stored(folder, columns, **declare):
    np.savez(folder / "a.npz", **columns)
    return ingest([folder / "a.npz"], folder / "a.zarr", declare=declare)


def columns(n=24):
    with np.load(CLASSIC) as raw:
        return {key: raw[key][:n].copy() for key in raw.files}


@pytest.mark.parametrize("declare", [{}, {"unit.Dxyz": "e*bohr"}])
def test_a_number_that_stands_for_no_dipole_is_set_aside(tmp_path, declare):
    some = columns()
    some["Dxyz"][[3, 11]] = -999.0
    report = stored(tmp_path, {k: v for k, v in some.items() if k != "D"}, **declare)
    assert report.n_quarantined == 2
    assert all("stand for no value" in reason for reason in report.reasons)


@pytest.mark.parametrize("factor", [5.0, -2.0])
def test_a_quadrupole_is_that_of_the_esp(tmp_path, factor):
    some = columns()
    real = some["Z"] > 0
    quadrupole = np.einsum("ma,max,may->mxy", some["mono"][:, :, 0] * real, some["R"], some["R"])
    traceless = quadrupole - np.trace(quadrupole, axis1=1, axis2=2)[:, None, None] * np.eye(3) / 3
    row = int(np.argmax(np.linalg.norm(traceless, axis=(1, 2))))
    traceless[row] *= factor
    some["quadrupole"] = traceless
    report = stored(tmp_path, some)
    assert report.n_quarantined == 1
    assert "from what its ESP gives" in next(iter(report.reasons))


def test_no_molecule_holds_many_electrons_beyond_its_nuclei(tmp_path):
    """The ESP of the electrons alone, which some programs write next to that of the nuclei."""
    some = columns()
    real = (some["Z"] > 0)[:, None]
    apart = np.linalg.norm(some["vdw_surface"][:, :, None] - some["R"][:, None], axis=-1)
    nuclei = np.where(real, some["Z"][:, None] / np.maximum(apart, 1e-3), 0.0).sum(axis=-1)
    some["esp"] = np.where(some["esp"] != 0, some["esp"] - 0.529177 * nuclei, 0.0)
    kept = {k: some[k] for k in ("id", "Z", "R", "N", "esp", "vdw_surface", "n_grid")}
    with pytest.raises(SourceError, match="nuclei's part"):
        stored(tmp_path, kept, **{"unit.esp": "hartree/e"})
