"""Forces are the slopes of their energies."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.chemistry.arrays import read_atoms
from pipeline.inference.forces import slope_of
from tests.pipeline.inference.convention_table import molecules
from tests.pipeline.inference.force_field import Surface, sampled


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    return molecules(tmp_path_factory.mktemp("records"))


def drawn(records, seed, minima=False):
    rng = np.random.default_rng(seed)
    sample = sampled(Surface.random(records, rng), rng, 40, minima)
    atoms = read_atoms(sample.numbers, sample.positions)
    return atoms, atoms.per_atom(sample.forces), sample.energies


def test_the_forces_of_the_tests_are_the_slopes_of_their_energies(records):
    surface = Surface.random(records, np.random.default_rng(0))
    step = 1e-5 * np.eye(surface.positions.size).reshape(-1, *surface.positions.shape)
    place = surface.positions + np.random.default_rng(1).normal(scale=0.05, size=step.shape[1:])
    up, down = (surface.evaluate(place + sign * step).energies for sign in (1, -1))
    slope = -((up - down) / 2e-5).reshape(place.shape)
    np.testing.assert_allclose(surface.evaluate(place[None]).forces[0], slope, atol=1e-7)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("factor", [1.0, -1.0, 23.06, -0.0019])
def test_the_slope_is_told_to_a_percent_with_its_sign(records, seed, factor):
    atoms, forces, energies = drawn(records, seed)
    found = slope_of(atoms, factor * forces, energies)
    assert found is not None
    assert found.ratio == pytest.approx(factor, rel=0.03)
    assert abs(found.ratio / factor - 1) < 4 * found.error


def test_nothing_is_told_of_geometries_that_are_far_apart_or_the_same(records):
    atoms, forces, energies = drawn(records, 0)
    far = atoms._replace(positions=atoms.positions + np.arange(40)[:, None, None])
    assert slope_of(far, forces, energies) is None
    same = atoms._replace(positions=np.repeat(atoms.positions[:1], 40, axis=0))
    assert slope_of(same, forces, energies) is None
