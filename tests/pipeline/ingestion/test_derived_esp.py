"""ESPs of atomic multipoles: evaluated where there is none, compared where there is one."""

import numpy as np
import pytest

from pipeline import ingest, make_loader, open_store
from pipeline.chemistry.multipoles import multipole_potential
from pipeline.chemistry.radii import van_der_waals_radii
from pipeline.inspection.validate import validate_store
from pipeline.sample import sample_sources
from store_schema.problems import ConfigError
from store_schema.units import BOHR_IN_ANGSTROM as BOHR
from tests.pipeline.inference.atomic_moments import with_moments


@pytest.fixture
def columns():
    """Molecules with multipoles that make their ESP, in units that the file names."""
    with np.load(sample_sources()[0]) as raw:
        return with_moments({key: raw[key][:12] for key in raw.files}, np.random.default_rng(0))


def stored(columns, folder, **options):
    np.savez(folder / "a.npz", **columns)
    report = ingest([folder / "a.npz"], folder / "a.zarr", esp_from="multipoles", **options)
    return report, open_store(folder / "a.zarr").to_dataset().load()


def without_esp(columns):
    return {key: values for key, values in columns.items() if key not in ("esp", "vdw_surface")}


def test_points_without_what_to_evaluate_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="--esp-from multipoles"):
        ingest(sample_sources(), tmp_path / "a.zarr", esp_points=300)
    assert not (tmp_path / "a.zarr").exists()


def test_it_is_that_of_the_multipoles_and_is_recorded_as_derived(columns, tmp_path):
    report, found = stored(without_esp(columns), tmp_path, esp_points=300)
    assert not report.warnings
    record = report.schema.sources[0].keys["ESP of multipoles"]
    assert (record.semantics_from, record.stored_as, record.n_present) == ("derived", "esp", 12)
    assert "12 from atomic multipoles up to octupoles (order 3)" in record.evidence[0]
    assert set(found.esp_origin.values) == {"atomic multipoles up to octupoles (order 3)"}
    assert set(found.n_grid.values) == {300}
    for row in range(12):
        one = found.isel(molecule=row, atom=slice(int(found.n_atoms[row])))
        moments = (one.monopoles, one.atomic_dipoles, one.atomic_quadrupoles, one.atomic_octupoles)
        expected = multipole_potential(
            one.vdw_surface.values.astype(float) / BOHR,
            one.positions.values.astype(float) / BOHR,
            *(m.values.astype(float) / BOHR**order for order, m in enumerate(moments)),
        )
        np.testing.assert_allclose(one.esp, expected, atol=2e-6)
        offset = one.vdw_surface.values[:, None] - one.positions.values
        nearest = np.linalg.norm(offset, axis=-1) / van_der_waals_radii(one.atomic_numbers.values)
        assert nearest.min() > 1.39
    assert not validate_store(tmp_path / "a.zarr").problems
    batch = next(iter(make_loader(tmp_path / "a.zarr", batch_size=4, split="all")))
    assert np.isfinite(np.asarray(batch.esp)).any()


def test_the_points_are_those_of_the_molecule_wherever_it_stands(columns, tmp_path):
    (tmp_path / "b").mkdir()
    _, first = stored(without_esp(columns), tmp_path, esp_points=100)
    turned = {k: v[::-1] if k != "units" else v for k, v in without_esp(columns).items()}
    _, other = stored(turned, tmp_path / "b", esp_points=100)
    np.testing.assert_array_equal(first.vdw_surface, other.vdw_surface[::-1])
    np.testing.assert_array_equal(first.esp, other.esp[::-1])


def test_molecules_that_have_one_keep_it_and_say_how_far_the_two_are_apart(columns, tmp_path):
    columns["esp"][::2] = np.nan
    columns["vdw_surface"][::2] = np.nan
    columns["esp"] += np.where(np.arange(columns["esp"].shape[1]) % 2, 1e-3, -1e-3)
    report, found = stored(columns, tmp_path, esp_points=200, declare={"unit.mono": "e"})
    assert [bool(text) for text in found.esp_origin.values] == [True, False] * 6
    own = found.isel(molecule=1)
    n_grid = int(own.n_grid)
    np.testing.assert_allclose(own.esp[:n_grid], columns["esp"][1, :n_grid], atol=1e-6)
    assert any("0.63 kcal/mol/e" in warning for warning in report.warnings)
    evidence = report.schema.sources[0].keys["ESP of multipoles"].evidence
    assert "over 6 molecules that have both" in evidence[1]


def test_an_order_that_an_atom_lacks_is_left_out(columns, tmp_path):
    some = without_esp(columns)
    some["atomic_quadrupoles"][3, 1] = np.nan
    del some["atomic_octupoles"]
    report, found = stored(some, tmp_path)
    orders = [text[-2] for text in found.esp_origin.values]
    assert orders == ["2"] * 3 + ["1"] + ["2"] * 8
    (warning,) = (text for text in report.warnings if "an ESP of" in text)
    assert "1 molecule has an ESP of atomic multipoles up to dipoles" in warning
    assert "lack of atomic_quadrupoles of every atom" in warning
    (tmp_path / "c").mkdir()
    for key in ("atomic_dipoles", "atomic_quadrupoles"):
        del some[key]
    report, found = stored(some, tmp_path / "c")
    assert set(found.esp_origin.values) == {"atomic multipoles up to charges (order 0)"}
    assert any("lack of atomic_dipoles of every atom" in warning for warning in report.warnings)
