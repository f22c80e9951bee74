"""Multipoles of atoms: their units and conventions by the ESP, by molecular moments, or asked."""

import json

import numpy as np
import pytest

from pipeline import ingest, open_store
from pipeline.sample import sample_sources
from store_schema.problems import AmbiguityError, DcmError
from store_schema.units import BOHR_IN_ANGSTROM as BOHR
from tests.pipeline.inference.atomic_moments import UNITS, buckingham, with_moments

QUADRUPOLES, OCTUPOLES = "atomic_quadrupoles", "atomic_octupoles"


@pytest.fixture
def columns():
    with np.load(sample_sources()[0]) as raw:
        return with_moments({key: raw[key][:24] for key in raw.files}, np.random.default_rng(1))


def stored(columns, folder, **declare):
    np.savez(folder / "a.npz", **columns)
    report = ingest([folder / "a.npz"], folder / "a.zarr", declare=declare)
    found = open_store(folder / "a.zarr").to_dataset().load()
    return report.schema.sources[0].keys, found


def without_words(columns, *keys):
    units = {key: unit for key, unit in UNITS.items() if key not in keys}
    return columns | {"units": np.array(json.dumps(units))}


def assert_moments(found, columns, *, traceless=False):
    """What is stored are the moments, in Å, whatever they were written as."""
    for order, key in ((1, "atomic_dipoles"), (2, QUADRUPOLES), (3, OCTUPOLES)):
        ours = found[key].values / BOHR**order
        theirs = columns[key][:, : ours.shape[1]]
        if traceless and order > 1:
            ours, theirs = buckingham(ours), buckingham(theirs)
        there = np.isfinite(ours)
        np.testing.assert_allclose(ours[there], theirs[there], rtol=1e-4, atol=1e-5)
        assert not theirs[~there].any()


def test_they_are_stored_as_moments_with_the_units_that_the_file_names(columns, tmp_path):
    keys, found = stored(columns, tmp_path)
    assert keys[OCTUPOLES].unit == "e*bohr^3"
    assert "what those leave of the ESP" in keys[OCTUPOLES].evidence[0]
    assert_moments(found, columns)


def test_the_esp_says_the_unit_where_nothing_else_does(columns, tmp_path):
    keys, found = stored(without_words(columns, QUADRUPOLES, OCTUPOLES), tmp_path)
    assert (keys[QUADRUPOLES].unit, keys[OCTUPOLES].unit) == ("e*bohr^2", "e*bohr^3")
    assert_moments(found, columns)


def test_buckinghams_are_told_from_moments_by_the_esp(columns, tmp_path):
    written = columns | {key: buckingham(columns[key]) for key in (QUADRUPOLES, OCTUPOLES)}
    keys, found = stored(written, tmp_path)
    assert keys[QUADRUPOLES].semantics == f"buckingham_{QUADRUPOLES}"
    assert keys[OCTUPOLES].semantics == f"buckingham_{OCTUPOLES}"
    assert_moments(found, columns, traceless=True)


def test_without_an_esp_the_moments_of_the_molecule_say_it(columns, tmp_path):
    """As in SPICE; those of octupoles say nothing here, and are asked for."""
    some = {k: v for k, v in columns.items() if k not in ("esp", "vdw_surface")}
    bare = without_words(some, "atomic_dipoles", QUADRUPOLES)
    keys, found = stored(bare, tmp_path)
    assert "times quadrupole" in keys[QUADRUPOLES].evidence[0]
    assert_moments(found, columns)
    with pytest.raises(AmbiguityError, match=OCTUPOLES):
        stored(without_words(some, OCTUPOLES), tmp_path)


def test_traceless_ones_that_nothing_decides_are_a_question_that_can_be_answered(columns, tmp_path):
    some = {k: v for k, v in columns.items() if k not in ("esp", "vdw_surface", "quadrupole")}
    some |= {key: buckingham(columns[key]) for key in (QUADRUPOLES, OCTUPOLES)}
    with pytest.raises(AmbiguityError, match=f"buckingham_{QUADRUPOLES}"):
        stored(some, tmp_path)
    answer = {key: f"buckingham_{key}" for key in (QUADRUPOLES, OCTUPOLES)}
    _, found = stored(some, tmp_path, **answer)
    assert_moments(found, columns, traceless=True)


@pytest.mark.parametrize("esp", [True, False])
@pytest.mark.parametrize("key", ["atomic_dipoles", QUADRUPOLES])
@pytest.mark.parametrize("how", ["negative", "permuted"])
def test_multipoles_that_do_not_add_up_are_refused(how, key, esp, columns, tmp_path):
    """Though the file names their unit: the sign, or the order of the axes is wrong."""
    values = columns[key]
    mixed = columns | {key: -values if how == "negative" else np.roll(values, 1, axis=-1)}
    if not esp:
        mixed = {k: v for k, v in mixed.items() if k not in ("esp", "vdw_surface")}
    with pytest.raises(DcmError, match=key):
        stored(mixed, tmp_path)
