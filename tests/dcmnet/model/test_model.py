"""The network: symmetries of space, independence of everything that is not the molecule."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings

from dcmnet.model import create_model
from pipeline.loader import BatchShape, make_batch
from store_schema.problems import ConfigError
from tests.molecules import (
    SmallNetwork,
    named,
    random_molecule,
    random_orthogonal,
    seeds,
    transformed,
    water_and_ions,
    without,
)

SHAPE = BatchShape(molecules=4, atoms=10, grid_points=0, pairs=360)
TOLERANCE = {"rtol": 0, "atol": 1e-5}


@pytest.fixture(scope="module")
def network():
    """Three charges per atom: a reshape in place of a transpose keeps the shape (…, 3, 3)."""
    return SmallNetwork.make(n_dcm=3, max_degree=2)


def four_molecules(rng):
    molecules = [random_molecule(rng, n, 0) for n in rng.integers(1, 11, 3)]
    return [*molecules, named("H2O", 0, centre=0)]


def batch_of(molecules, shape=SHAPE):
    return make_batch([without(m, "esp", "vdw_surface") for m in molecules], shape)


def predicted(network, batch, constrain=True):
    """Returns for each molecule its charges and the displacements of those from its atoms."""
    charges, positions = network(batch, constrain)
    displacements = positions - np.asarray(batch.positions)[:, :, None]
    return [
        (charges[b][mask], displacements[b][mask])
        for b, mask in enumerate(np.asarray(batch.atom_mask))
    ]


def assert_same(found, expected):
    for (q, d), (q_expected, d_expected) in zip(found, expected, strict=True):
        np.testing.assert_allclose(q, q_expected, **TOLERANCE)
        np.testing.assert_allclose(d, d_expected, **TOLERANCE)


@pytest.mark.parametrize("reflect", [False, True], ids=["rotation", "reflection"])
@settings(max_examples=10)
@given(seed=seeds)
def test_charges_are_invariant_and_displacements_turn_along(network, reflect, seed):
    """The trap of coordinates scrambled by a reshape: scrambled vectors do not turn along."""
    rng = np.random.default_rng(seed)
    molecules = four_molecules(rng)
    matrix = random_orthogonal(rng, reflect)
    still = predicted(network, batch_of(molecules))
    moved = predicted(network, batch_of([transformed(m, matrix) for m in molecules]))
    assert_same(moved, [(q, d @ matrix.T) for q, d in still])
    assert np.ptp(still[-1][0]) > 0.01, "charges that are all alike would pass"
    assert np.abs(still[-1][1]).max() > 0.001, "displacements of zero would pass"


@settings(max_examples=10)
@given(seed=seeds)
def test_translation_changes_nothing(network, seed):
    """The trap of padding at the origin that talks to atoms: water's oxygen starts there."""
    rng = np.random.default_rng(seed)
    molecules = four_molecules(rng)
    shift = rng.uniform(-5, 5, 3)
    moved = [transformed(m, shift=shift) for m in molecules]
    assert_same(predicted(network, batch_of(moved)), predicted(network, batch_of(molecules)))


def test_padding_and_bucket_change_nothing(network, rng):
    molecules = [random_molecule(rng, n, 12) for n in (2, 9, 5)] + [named("H2O", 0, centre=0)]
    larger = BatchShape(molecules=5, atoms=14, grid_points=8, pairs=700)
    found = predicted(network, batch_of(molecules, larger))
    assert found[-1][0].shape == (0, 3)
    assert_same(found[:4], predicted(network, batch_of(molecules)))


def test_positions_of_dummy_atoms_change_nothing(network, rng):
    batch = batch_of(four_molecules(rng))
    junk = rng.normal(scale=3, size=batch.positions.shape).astype(np.float32)
    hidden = batch._replace(positions=np.where(batch.atom_mask[..., None], batch.positions, junk))
    assert_same(predicted(network, hidden), predicted(network, batch))
    assert not network(hidden)[0][~batch.atom_mask].any()


def test_masked_pairs_send_nothing(network, rng):
    """They end at the last place, where a full molecule has a real atom."""
    batch = batch_of([*four_molecules(rng)[1:], random_molecule(rng, SHAPE.atoms, 0)])
    assert batch.atom_mask[-1, -1]
    anywhere = rng.integers(batch.atom_mask.size, size=batch.pair_src.shape).astype(np.int32)
    assert (~batch.pair_mask).any()
    hidden = batch._replace(pair_src=np.where(batch.pair_mask, batch.pair_src, anywhere))
    assert_same(predicted(network, hidden), predicted(network, batch))


@settings(max_examples=10)
@given(seed=seeds)
def test_order_in_the_batch_changes_nothing(network, seed):
    rng = np.random.default_rng(seed)
    molecules = four_molecules(rng)
    order = rng.permutation(4)
    found = predicted(network, batch_of([molecules[i] for i in order]))
    still = predicted(network, batch_of(molecules))
    assert_same(found, [still[i] for i in order])


def test_other_molecules_of_the_batch_do_not_matter(network, rng):
    """The trap of pair indices without batch offsets, and of a first molecule that rules."""
    molecules = four_molecules(rng)
    together = predicted(network, batch_of(molecules))
    for i, molecule in enumerate(molecules):
        alone = predicted(network, batch_of([molecule]))
        assert_same(alone[:1], together[i : i + 1])


def test_charges_follow_their_atoms(network, rng):
    molecule = random_molecule(rng, 10, 0)
    order = rng.permutation(10)
    shuffled = {
        **molecule,
        **{name: molecule[name][order] for name in ("atomic_numbers", "positions", "monopoles")},
    }
    (charges, displacements), (q, d) = predicted(network, batch_of([molecule, shuffled]))[:2]
    assert_same([(q, d)], [(charges[order], displacements[order])])


def test_atoms_beyond_the_cutoff_do_not_matter(network):
    water, far = named("H2O", 0), transformed(named("H2O", 0), shift=np.array([30.0, 0, 0]))
    both = {
        name: np.concatenate([water[name], far[name]]) for name in ("atomic_numbers", "positions")
    }
    (q, d), (q_both, d_both) = predicted(network, batch_of([water, both]), constrain=False)[:2]
    assert_same([(q_both[:3], d_both[:3])], [(q, d)])


def test_charges_are_continuous_at_the_cutoff(network):
    def charges_at(distance):
        pair = {"atomic_numbers": [8, 1], "positions": [[0, 0, 0], [0, 0, distance]]}
        return predicted(network, batch_of([pair]), constrain=False)[0][0]

    cutoff = network.network.cutoff
    np.testing.assert_allclose(charges_at(cutoff - 1e-3), charges_at(cutoff + 1e-3), atol=1e-4)
    assert np.abs(charges_at(1.0) - charges_at(cutoff + 1e-3)).max() > 1e-3


@pytest.mark.parametrize("n_dcm", range(1, 8))
def test_any_number_of_charges_sums_to_the_total_charge(n_dcm):
    """The trap of a net charge forced to 0: hydroxide has -1 and ammonium +1."""
    network = SmallNetwork.make(n_dcm=n_dcm, num_iterations=1)
    molecules = water_and_ions()
    charges, positions = network(batch_of(molecules))
    assert charges.shape == (4, 10, n_dcm)
    assert positions.shape == (4, 10, n_dcm, 3)
    np.testing.assert_allclose(
        charges.astype(np.float64).sum(axis=(1, 2)), [0, -1, 1, 0], rtol=0, atol=1e-6
    )


def test_an_unknown_total_charge_is_not_imposed(network):
    molecules = [without(m, "total_charge") for m in water_and_ions()]
    batch = batch_of(molecules)
    free = predicted(network, batch, constrain=False)
    assert_same(predicted(network, batch), free)
    assert all(abs(charges.sum()) > 1e-3 for charges, _ in free)


def test_a_lone_ion_has_its_charge_at_its_nucleus(network):
    chloride = {"atomic_numbers": [17], "positions": [[0.0, 0, 0]], "total_charge": -1.0}
    charges, displacements = predicted(network, batch_of([chloride]))[0]
    np.testing.assert_allclose(charges.sum(), -1, atol=1e-6)
    np.testing.assert_array_equal(displacements, np.zeros((1, 3, 3)))


def test_displacements_are_proportional_to_their_scale(rng):
    batch = batch_of(four_molecules(rng))
    near, far = (
        predicted(SmallNetwork.make(displacement_scale=scale, num_iterations=1), batch)
        for scale in (0.1, 0.3)
    )
    assert_same(far, [(q, 3 * d) for q, d in near])
    assert max(np.abs(d).max() for _, d in near) > 1e-3


def test_gradients_are_finite_with_padding_and_lone_atoms(rng):
    """Distances of zero, between padding atoms, have no derivative; none may be asked for."""
    lone = {"atomic_numbers": [11], "positions": [[0.0, 0, 0]], "total_charge": 1.0}
    batch = batch_of([lone, random_molecule(rng, 4, 0)])

    small = SmallNetwork.make(num_iterations=1)

    def total(params, positions):
        charges, where = small.network.apply(params, batch._replace(positions=positions))
        return (charges**2).sum() + (where**2).sum()

    gradients = jax.jit(jax.grad(total, argnums=(0, 1)))(small.params, jnp.asarray(batch.positions))
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradients))
    assert np.abs(gradients[1][1]).max() > 0


def test_wrong_fields_are_all_told():
    with pytest.raises(ConfigError) as caught:
        create_model(n_dcm=0, featurs=16, cutoff=-1.0)
    text = str(caught.value)
    assert len(caught.value.problems) == 3
    assert "n_dcm" in text
    assert "cutoff" in text
    assert "Did you mean features" in text
