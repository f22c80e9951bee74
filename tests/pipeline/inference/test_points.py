"""The point that dipoles of ions are about: seen, or asked, and never taken for a unit."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline import ingest, open_store
from pipeline.chemistry.arrays import read_atoms
from pipeline.chemistry.centers import CENTERS
from pipeline.inference.dipoles import dipole_hypotheses
from pipeline.inference.hypothesis import NO_FIT
from pipeline.inference.reference import Reference
from store_schema.problems import AmbiguityError, ConfigError
from store_schema.units import BOHR_IN_ANGSTROM
from tests.pipeline.inference.convention_table import molecules


@pytest.fixture(scope="module")
def moved(tmp_path_factory):
    """Ions and some neutral molecules, each somewhere else: columns, and the true dipoles."""
    rng = np.random.default_rng(0)
    records = molecules(tmp_path_factory.mktemp("records"))
    charge, size = records.total_charge.to_numpy(), records.n_atoms.to_numpy()
    known = np.isfinite(records.monopoles.to_numpy()).any(axis=1) & (size > 2)
    known &= np.isfinite(records.dipole.to_numpy()).all(axis=1)
    rows = np.concatenate(
        [np.flatnonzero(known & (charge != 0))[:12], np.flatnonzero(known & (charge == 0))[:24]]
    )
    rows = np.unique(rows)
    some = records.isel(molecule=rows)
    width = int(size[rows].max())
    real = np.arange(width) < size[rows][:, None]
    shift = rng.normal(scale=1.0, size=(len(rows), 1, 3))
    positions = np.where(real[..., None], some.positions.to_numpy()[:, :width] + shift, 0.0)
    columns = {
        "Z": np.where(real, some.atomic_numbers.to_numpy()[:, :width], 0).astype(int),
        "R": positions,
        "mono": np.where(real, some.monopoles.to_numpy()[:, :width], 0.0),
    }
    dipole = some.dipole.to_numpy() + charge[rows][:, None] * shift[:, 0]
    return columns, dipole, charge[rows]


def about(point, columns, dipole, charge):
    atoms = read_atoms(columns["Z"], columns["R"])
    return dipole - charge[:, None] * CENTERS[point](atoms) if point in CENTERS else dipole


def stored(folder, columns, name="a", **declare):
    np.savez(folder / f"{name}.npz", **columns)
    ingest([folder / f"{name}.npz"], folder / f"{name}.zarr", declare=declare)
    return open_store(folder / f"{name}.zarr").to_dataset()


@pytest.mark.parametrize("unit", [1.0, 4.80320])
@pytest.mark.parametrize("point", ["origin", "center_of_mass"])
def test_monopoles_show_the_point(moved, tmp_path, point, unit):
    columns, dipole, charge = moved
    found = stored(tmp_path, columns | {"D": unit * about(point, columns, dipole, charge)})
    np.testing.assert_allclose(found.dipole, dipole, atol=1e-3)


@pytest.mark.parametrize("point", ["center_of_mass", "center_of_nuclear_charge"])
def test_a_point_that_is_declared_is_believed(moved, tmp_path, point):
    columns, dipole, charge = moved
    given = {"Dxyz": about(point, columns, dipole, charge)}
    found = stored(tmp_path, columns | given, **{"point.Dxyz": point})
    np.testing.assert_allclose(found.dipole, dipole, atol=1e-3)


def test_magnitudes_about_another_point_are_refused_and_can_be_left_out(moved, tmp_path):
    columns, dipole, charge = moved
    given = np.linalg.norm(about("center_of_mass", columns, dipole, charge), axis=1)
    columns = columns | {"D": given}
    with pytest.raises(AmbiguityError, match=r"D: .*cannot be moved there|point\.D="):
        stored(tmp_path, columns)
    found = stored(tmp_path, columns, "b", D="unknown")
    assert "dipole_magnitude" not in found


def test_dipoles_of_neutral_molecules_are_about_no_point(moved, tmp_path):
    columns, dipole, charge = moved
    neutral = charge == 0
    columns = {key: values[neutral] for key, values in columns.items()}
    found = stored(tmp_path, columns | {"D": np.linalg.norm(dipole[neutral], axis=1)})
    np.testing.assert_allclose(
        found.dipole_magnitude, np.linalg.norm(dipole[neutral], axis=1), atol=1e-3
    )


def test_a_point_that_is_none_is_refused(moved, tmp_path):
    columns, dipole, _ = moved
    with pytest.raises(ConfigError, match="center_of_mass"):
        stored(tmp_path, columns | {"D": dipole}, **{"point.D": "middle"})


@pytest.mark.parametrize("seed", range(3))
def test_errors_of_the_dipoles_of_ions_do_not_speak_against_their_unit(seed):
    """Multipoles fitted to distorted ions are off by more than others, and in no direction."""
    rng, n = np.random.default_rng(seed), 40
    place, dipole = rng.normal(scale=3.0, size=(n, 3)), rng.normal(size=(n, 3))
    charge = rng.choice([-1.0, 1.0], n)
    reference = Reference(
        rows=np.arange(n),
        kinds=np.arange(n),
        charges=charge,
        centers={"center_of_mass": place, "center_of_nuclear_charge": place + 0.1},
        dipole=dipole + charge[:, None] * place,
        quadrupole=np.full((n, 3, 3), np.nan),
        residual=np.full(n, 0.01),
        spread=0.012,
        error=0.006,
        origin="the ESP",
    )
    given = (reference.dipole * 1.004 + rng.normal(scale=0.04, size=(n, 3))) / BOHR_IN_ANGSTROM
    found = dipole_hypotheses("molecular_dipole_vector", given, [reference])
    (right,) = (h for h in found if h.unit == "e*bohr" and h.about == "origin")
    assert right.misfit < 1.0
    assert all(h.misfit >= NO_FIT for h in found if h.unit == "e*bohr" and h is not right)
