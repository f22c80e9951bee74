"""The ladder of fitted multipoles against closed forms, and on real molecules."""

import numpy as np
import pytest

from pipeline.chemistry.multipole_ladder import fitted_ladder
from pipeline.chemistry.multipoles import multipole_potential
from pipeline.sample import sample_sources
from store_schema.units import BOHR_IN_ANGSTROM, HARTREE_IN_KCAL_PER_MOL

BOHR = BOHR_IN_ANGSTROM


def around(positions, rng, n=400):
    direction = rng.normal(size=(n, 3))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    return positions.mean(axis=0) + direction * rng.uniform(4, 6, (n, 1))


@pytest.mark.parametrize("order", [0, 1, 2])
def test_what_multipoles_made_is_explained_by_multipoles(order):
    """Exactly by their order, and by none below it."""
    rng = np.random.default_rng(order)
    positions = rng.uniform(-1.5, 1.5, (5, 3))
    charges = rng.normal(size=5)
    dipoles = rng.normal(size=(5, 3)) if order > 0 else None
    tensors = rng.normal(size=(5, 3, 3))
    tensors = tensors + tensors.transpose(0, 2, 1)
    tensors -= np.trace(tensors, axis1=1, axis2=2)[:, None, None] * np.eye(3) / 3
    grid = around(positions, rng)
    esp = multipole_potential(
        grid / BOHR, positions / BOHR, charges, dipoles, tensors if order > 1 else None
    )
    found = fitted_ladder(positions, charges.sum(), grid, esp)
    assert max(found[order:]) < 1e-8
    assert all(left > 1e-4 for left in found[:order])


def test_one_atom_has_its_net_charge_and_no_other():
    rng = np.random.default_rng(3)
    nucleus = np.zeros((1, 3))
    grid = around(nucleus, rng)
    esp = BOHR / np.linalg.norm(grid, axis=1)
    assert max(fitted_ladder(nucleus, 1.0, grid, esp)) < 1e-12
    left = fitted_ladder(nucleus, 0.0, grid, esp).charges
    np.testing.assert_allclose(left, np.sqrt((esp**2).mean()))


def test_the_ladder_falls_for_every_ion_and_molecule_of_the_sample():
    path = next(path for path in map(str, sample_sources()) if path.endswith("ions.npz"))
    raw = dict(np.load(path))
    for row, n_points in enumerate(raw["n_grid"]):
        atoms = raw["atomic_numbers"][row] > 0
        esp = raw["esp"][row, :n_points] / HARTREE_IN_KCAL_PER_MOL
        grid = raw["vdw_surface"][row, :n_points]
        found = fitted_ladder(raw["positions"][row, atoms], float(raw["charge"][row]), grid, esp)
        size = np.sqrt((esp**2).mean())
        assert found.quadrupoles < found.dipoles < found.charges < size
        assert found.quadrupoles < 0.002
