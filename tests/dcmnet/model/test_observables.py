"""Observables of a batch against plain float64 sums, one charge at a time."""

import ase.units
import jax
import numpy as np

from dcmnet.model.observables import observe
from pipeline.loader import BatchShape, make_batch
from tests.molecules import random_molecule

D = 3


def observed(rng, shape=BatchShape(4, 8, 40, 200), sizes=((3, 40), (8, 17), (1, 5))):  # noqa: B008
    batch = make_batch([random_molecule(rng, a, g) for a, g in sizes], shape)
    atoms = batch.atom_mask.sum()
    charges = np.zeros((*batch.atom_mask.shape, D), np.float32)
    charges[batch.atom_mask] = rng.normal(scale=0.3, size=(atoms, D))
    positions = np.repeat(batch.positions[:, :, None], D, axis=2)
    positions += rng.uniform(-0.2, 0.2, positions.shape).astype(np.float32)
    found = jax.jit(observe)(charges, positions, batch)
    return batch, charges.astype(float), positions.astype(float), jax.device_get(found)


def test_observables_of_every_molecule_are_its_own_sums(rng):
    """The trap of a reshape for a transpose: each charge is summed with its own position."""
    batch, charges, positions, found = observed(rng)
    for b in np.flatnonzero(batch.molecule_mask):
        esp = np.zeros(batch.grid_mask[b].sum())
        dipole, quadrupole = np.zeros(3), np.zeros((3, 3))
        for a in np.flatnonzero(batch.atom_mask[b]):
            np.testing.assert_allclose(found.monopoles[b, a], charges[b, a].sum(), atol=1e-6)
            for d in range(D):
                q, x = charges[b, a, d], positions[b, a, d]
                separation = batch.vdw_surface[b][batch.grid_mask[b]].astype(float) - x
                esp += q * ase.units.Bohr / np.linalg.norm(separation, axis=1)
                dipole += q * x
                quadrupole += q * np.outer(x, x)
        np.testing.assert_allclose(found.esp[b][batch.grid_mask[b]], esp, atol=1e-6)
        np.testing.assert_allclose(found.dipole[b], dipole, atol=1e-5)
        np.testing.assert_allclose(found.quadrupole[b], quadrupole, atol=1e-5)


def test_padding_has_neither_charge_nor_displacement(rng):
    batch, _, _, found = observed(rng)
    for values in (found.charges, found.monopoles, found.displacements):
        assert not values[~batch.atom_mask].any()
    assert np.isfinite(found.esp).all()
    assert not found.dipole[~batch.molecule_mask].any()
