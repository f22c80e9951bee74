"""Bonds to hydrogen pull with known strength, which shows the unit and the sign of forces."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from pipeline.chemistry.arrays import read_atoms
from pipeline.inference.stretching import stretching
from tests.pipeline.inference.convention_table import molecules
from tests.pipeline.inference.force_field import Surface, sampled


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    return molecules(tmp_path_factory.mktemp("records"))


def measured(numbers, positions, forces):
    atoms = read_atoms(numbers, positions)
    return stretching(atoms, atoms.per_atom(forces))


def geometries(records, seed, n=40, minima=False):
    rng = np.random.default_rng(seed)
    return sampled(Surface.random(records, rng), rng, n, minima)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("n", [12, 40])
@pytest.mark.parametrize("factor", [1.0, -1.0, 51.4, -0.0019])
def test_force_constants_show_the_factor_and_its_sign(records, seed, n, factor):
    sample = geometries(records, seed, n)
    ratio, error = measured(sample.numbers, sample.positions, factor * sample.forces)
    assert abs(np.log(ratio / factor)) < 3 * error
    assert error < 0.2


@pytest.mark.parametrize("lengths", [np.linspace(0.8, 2.0, 24), np.linspace(0.85, 1.1, 6)])
@pytest.mark.parametrize("seed", range(3))
def test_a_scan_shows_them_near_its_minimum(lengths, seed):
    surface = Surface.diatomic(np.random.default_rng(seed))
    sample = surface.along(lengths * surface.lengths)
    ratio, error = measured(sample.numbers, sample.positions, sample.forces)
    assert abs(np.log(ratio)) < 3 * error


def test_molecules_of_one_geometry_each_are_compared_with_each_other(records):
    parts = [geometries(records, seed, 1) for seed in range(60)]
    width = max(part.numbers.shape[1] for part in parts)
    numbers = np.zeros((60, width), int)
    positions, forces = np.zeros((2, 60, width, 3))
    for row, part in enumerate(parts):
        n = part.numbers.shape[1]
        numbers[row, :n], positions[row, :n], forces[row, :n] = (
            part.numbers[0],
            part.positions[0],
            part.forces[0],
        )
    ratio, error = measured(numbers, positions, forces)
    assert abs(np.log(ratio)) < 3 * error


@pytest.mark.parametrize("seed", range(6))
def test_minima_say_nothing(records, seed):
    sample = geometries(records, seed, minima=True)
    assert measured(sample.numbers, sample.positions, sample.forces) is None


@pytest.mark.parametrize("seed", range(6))
def test_forces_of_other_geometries_say_nothing(records, seed, rng):
    sample = geometries(records, seed)
    drawn = rng.permutation(sample.forces)
    found = measured(sample.numbers, sample.positions, drawn)
    assert found is None


def test_neither_the_order_nor_turning_matters(records, rng):
    sample = geometries(records, 0)
    expected = measured(sample.numbers, sample.positions, sample.forces)
    turns = Rotation.random(len(sample.numbers), rng=rng).as_matrix()
    order = rng.permutation(len(sample.numbers))
    turned = [
        np.einsum("mij,maj->mai", turns, values) for values in (sample.positions, sample.forces)
    ]
    found = measured(sample.numbers[order], *(values[order] for values in turned))
    assert found == pytest.approx(expected)


def test_bonds_that_are_far_from_their_length_say_nothing(records):
    surface = Surface.diatomic(np.random.default_rng(0))
    sample = surface.along(np.linspace(1.5, 4.0, 40))
    assert measured(sample.numbers, sample.positions, sample.forces) is None
