"""Losses against plain float64 loops over molecules, and the traps of masks."""

import functools

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dcmnet.config import TrainingConfig
from dcmnet.model.observables import Observables
from dcmnet.training.losses import molecule_losses, points_outside
from pipeline.loader import BatchShape, make_batch
from store_schema.units import HARTREE_IN_KCAL_PER_MOL
from tests.molecules import random_molecule, seeds, without

SHAPE = BatchShape(molecules=5, atoms=9, grid_points=24, pairs=400)
CONFIG = TrainingConfig(esp_w=1e4, chg_w=2.0, dipole_w=3.0, quadrupole_w=0.5)
TARGETS = ("esp", "monopoles", "dipole", "quadrupole")
WEIGHTS = dict(zip(TARGETS, (1e4, 2.0, 3.0, 0.5), strict=True))

losses = jax.jit(molecule_losses, static_argnums=2)


def batch_of(molecules, shape=SHAPE):
    return make_batch(molecules, shape)


def random_prediction(rng, shape=SHAPE):
    B, A, G, _ = shape
    sizes = {"esp": (B, G), "monopoles": (B, A), "dipole": (B, 3), "quadrupole": (B, 3, 3)}
    sizes |= {"charges": (B, A, 1), "displacements": (B, A, 1, 3), "electric_field": (B, 0, 3)}
    scale = {"esp": 0.02}
    return Observables(
        **{
            name: rng.normal(scale=scale.get(name, 1.0), size=size).astype(np.float32)
            for name, size in sizes.items()
        }
    )


def molecules_of(rng, sizes=((3, 24), (9, 10), (1, 17))):
    return [random_molecule(rng, n_atoms, n_grid) for n_atoms, n_grid in sizes]


def expected_losses(molecule, prediction, b):
    """Half the mean squared error of a molecule's own entries, times the weight."""
    terms = {}
    for name in TARGETS:
        if name in molecule:
            reference = np.asarray(molecule[name], float)
            value = getattr(prediction, name)[b].astype(float)
            value = value[tuple(slice(size) for size in reference.shape)]
            error = value - reference
            if name == "quadrupole":
                error -= np.trace(error) * np.eye(3) / 3
            terms[name] = WEIGHTS[name] * 0.5 * np.mean(error**2)
        else:
            terms[name] = 0.0
    return terms


@settings(max_examples=25)
@given(seed=seeds, absent=st.lists(st.sets(st.sampled_from(TARGETS)), min_size=3, max_size=3))
def test_every_molecule_has_its_own_loss(seed, absent):
    """The traps of only the first molecule entering the loss, of its atom count masking all the
    others, and of missing monopoles trained on as true zeros."""
    rng = np.random.default_rng(seed)
    sizes = [(int(rng.integers(1, 10)), int(rng.integers(1, 25))) for _ in absent]
    molecules = [
        without(molecule, *names)
        for molecule, names in zip(molecules_of(rng, sizes), absent, strict=True)
    ]
    prediction = random_prediction(rng)
    found = losses(prediction, batch_of(molecules), CONFIG)
    assert set(found) == set(TARGETS)
    for name, values in found.items():
        expected = [expected_losses(m, prediction, b)[name] for b, m in enumerate(molecules)]
        np.testing.assert_allclose(values, [*expected, 0, 0], rtol=1e-4)


def test_traces_of_quadrupoles_do_not_count(rng):
    """The trap of a model that is taught the trace of traceless quadrupoles, which is zero."""
    molecules = molecules_of(rng)
    prediction = random_prediction(rng)
    expected = losses(prediction, batch_of(molecules), CONFIG)["quadrupole"]
    for molecule in molecules:
        molecule["quadrupole"] = molecule["quadrupole"] + rng.normal(scale=5.0) * np.eye(3)
    found = losses(prediction, batch_of(molecules), CONFIG)["quadrupole"]
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_batch_loss_is_the_mean_of_the_losses_of_its_molecules(rng):
    molecules = molecules_of(rng)
    prediction = random_prediction(rng)
    together = losses(prediction, batch_of(molecules), CONFIG)
    for b, molecule in enumerate(molecules):
        row = Observables(*(np.roll(field, -b, axis=0) for field in prediction))
        alone = losses(row, batch_of([molecule]), CONFIG)
        for name in TARGETS:
            np.testing.assert_allclose(alone[name][0], together[name][b], rtol=1e-5)


@pytest.mark.parametrize("filling", [1e4, 1e6, 0.0])
def test_masked_entries_do_not_count_whatever_they_hold(rng, filling):
    """The traps of padded points at 10000 Å counted as valid, and of errors averaged over
    padding."""
    batch = batch_of(molecules_of(rng))
    prediction = random_prediction(rng)
    masks = {"esp": batch.grid_mask, "monopoles": batch.atom_mask}
    filled = batch._replace(
        **{n: np.where(m, getattr(batch, n), np.float32(filling)) for n, m in masks.items()}
    )
    expected = losses(prediction, batch, CONFIG)
    found = losses(prediction, filled, CONFIG)
    for name in TARGETS:
        np.testing.assert_array_equal(found[name], expected[name])


def test_absent_targets_and_padding_give_no_gradient(rng):
    molecules = molecules_of(rng)
    molecules[1] = without(molecules[1], *TARGETS)
    batch = batch_of(molecules)

    @jax.jit
    def total(prediction, batch):
        return sum(term.sum() for term in molecule_losses(prediction, batch, CONFIG).values())

    gradient = jax.grad(total)(random_prediction(rng), batch)
    masks = {
        "esp": batch.grid_mask & batch.has_esp[:, None],
        "monopoles": batch.atom_mask & batch.has_monopoles[:, None],
        "dipole": np.broadcast_to(batch.has_dipole[:, None], batch.dipole.shape),
        "quadrupole": np.broadcast_to(batch.has_quadrupole[:, None, None], batch.quadrupole.shape),
    }
    for name, mask in masks.items():
        values = np.asarray(getattr(gradient, name))
        assert not values[~mask].any(), name
        assert values[mask].all(), name


def test_strongly_anisotropic_points_are_kept(rng):
    """The trap of points of large |ESP| deleted as outliers: one counts as its square."""
    molecule = random_molecule(rng, 4, 20)
    molecule["esp"] = np.zeros(20)
    molecule["esp"][7] = 3.0
    prediction = random_prediction(rng)._replace(esp=np.zeros((5, 24), np.float32))
    found = losses(prediction, batch_of([molecule]), CONFIG)["esp"]
    np.testing.assert_allclose(found[0], 1e4 * 0.5 * 9 / 20, rtol=1e-6)


def test_terms_without_weight_are_left_out(rng):
    config = TrainingConfig(esp_w=0.0, chg_w=0.0, dipole_w=1.0)
    assert set(losses(random_prediction(rng), batch_of(molecules_of(rng)), config)) == {"dipole"}


def test_roots_of_errors_grow_as_errors_and_have_the_slope_of_squares_at_one_unit(rng):
    """The trap of a root without a gradient where nothing is wrong, or nothing is known."""
    rooted = CONFIG.updated(esp_loss="rmse")
    unit = 1 / HARTREE_IN_KCAL_PER_MOL
    batch = batch_of([*molecules_of(rng), without(random_molecule(rng, 3, 5), "esp")])
    predicted = random_prediction(rng)

    @functools.partial(jax.jit, static_argnums=2)
    def losses_and_slopes(off, batch, config):
        """Of each molecule, whose ESP is wrong by so much in all points."""

        def loss(off):
            wrong = predicted._replace(esp=batch.esp + off[:, None])
            return molecule_losses(wrong, batch, config)["esp"]

        return loss(off), jax.grad(lambda off: loss(off).sum())(off)

    def measured(config):
        return map(np.asarray, losses_and_slopes(sizes, batch, config))

    sizes = np.array([0.0, unit, 30 * unit, unit, unit], np.float32)
    found, slopes = measured(rooted)
    _, slopes_of_squares = measured(CONFIG)
    for values in (found, slopes):
        np.testing.assert_allclose(values[[0, 3, 4]], 0, atol=1e-9)
    assert slopes[1] == pytest.approx(slopes_of_squares[1], rel=0.01)
    assert slopes[2] == pytest.approx(slopes[1], rel=0.01)
    np.testing.assert_allclose(found[1:3], 1e4 * unit * (sizes[1:3] - 0.1 * unit), rtol=0.01)


def test_points_inside_atoms_are_left_out_where_asked(rng):
    """By hand: hydrogen's radius is 1.2 angstrom, oxygen's 1.52; padding atoms have none."""
    molecule = {
        "atomic_numbers": [8, 1],
        "positions": [[0.0, 0.0, 0.0], [0.0, 0.0, 0.96]],
        # 1.25, 1.9 and 3 times oxygen's radius; 1.25 and 1.6 times hydrogen's
        "vdw_surface": [[x, 0, 0] for x in (-1.9, -2.888, -4.56)]
        + [[0, 0, 0.96 + z] for z in (1.5, 1.92)],
        "esp": [0.1] * 5,
    }
    other = random_molecule(rng, 9, 24)  # makes the first one padded
    batch = batch_of([molecule, other])
    outside = np.asarray(points_outside(batch, 1.4))[0, :5]
    assert outside.tolist() == [False, True, True, False, True]
    predicted = random_prediction(rng)
    error = (np.asarray(predicted.esp)[0, :5].astype(float) - 0.1) ** 2
    config = CONFIG.updated(min_vdw_factor=1.4)
    found = float(losses(predicted, batch, config)["esp"][0])
    assert found == pytest.approx(1e4 * 0.5 * error[outside].mean(), rel=1e-5)
    nothing_left = losses(predicted, batch, CONFIG.updated(min_vdw_factor=50.0))["esp"]
    assert np.asarray(nothing_left).tolist() == [0.0] * SHAPE.molecules
