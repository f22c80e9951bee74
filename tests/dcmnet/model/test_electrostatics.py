"""ESP, dipole and quadrupole against float64 closed forms and finite differences."""

import ase.units
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings

from dcmnet.model import electrostatics
from tests.molecules import random_orthogonal, seeds

# Fewer points than a block, one block, one more than a block, several.
GRID_SIZES = (1, 256, 257, 700)
POINTS_OF_A_BLOCK = 256
B, K = 2, 5


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(electrostatics, "_BLOCK", POINTS_OF_A_BLOCK * B * K)


esp = jax.jit(electrostatics.esp)
moments = jax.jit(lambda q, x: (electrostatics.dipole(q, x), electrostatics.quadrupole(q, x)))
gradients = jax.jit(
    jax.grad(lambda q, x, g, c: (c * electrostatics.esp(q, x, g)).sum(), argnums=(0, 1, 2))
)


def esp64(charges, positions, grid):
    """V(r) = sum_k q_k / |r - x_k| in hartree/e, one molecule at a time, in double precision."""
    distance = np.linalg.norm(grid[:, :, None] - positions[:, None], axis=-1) / ase.units.Bohr
    return (charges[:, None] / distance).sum(axis=-1)


def charges_and_grid(seed, points):
    rng = np.random.default_rng(seed)
    charges = rng.normal(size=(B, K))
    positions = rng.uniform(-1, 1, (B, K, 3))
    direction = rng.normal(size=(B, points, 3))
    direction /= np.linalg.norm(direction, axis=-1, keepdims=True)
    return charges, positions, direction * rng.uniform(2.5, 6, (B, points, 1)), rng


def single(*arrays):
    return [jnp.asarray(array, jnp.float32) for array in arrays]


@pytest.mark.parametrize("points", GRID_SIZES)
def test_esp_equals_coulombs_law(points):
    """The trap of a mistyped bohr factor: Coulomb's law here takes its bohr from ASE."""
    charges, positions, grid, _ = charges_and_grid(points, points)
    found = esp(*single(charges, positions, grid))
    assert found.shape == (B, points)
    np.testing.assert_allclose(found, esp64(charges, positions, grid), rtol=1e-5, atol=1e-6)


def test_a_unit_charge_at_one_bohr_is_one_hartree():
    position, point = np.zeros((1, 1, 3)), np.array([[[0, 0, ase.units.Bohr]]])
    found = esp(*single(np.ones((1, 1)), position, point))
    np.testing.assert_allclose(found, [[1.0]], rtol=1e-6)


@pytest.mark.parametrize("points", GRID_SIZES)
def test_gradients_equal_the_closed_form(points):
    charges, positions, grid, rng = charges_and_grid(points + 1, points)
    c = rng.normal(size=(B, points))
    separation = grid[:, :, None] - positions[:, None]
    distance = np.linalg.norm(separation, axis=-1)
    pull = c[:, :, None, None] * separation / distance[..., None] ** 3
    expected = (
        (c[:, :, None] / distance).sum(axis=1),
        charges[..., None] * pull.sum(axis=1),
        -(charges[:, None, :, None] * pull).sum(axis=2),
    )
    found = gradients(*single(charges, positions, grid, c))
    for gradient, in_bohr in zip(found, expected, strict=True):
        wanted = ase.units.Bohr * in_bohr
        np.testing.assert_allclose(gradient, wanted, rtol=1e-4, atol=1e-5 * np.abs(wanted).max())


def test_the_gradient_takes_as_many_points_at_once_as_fit_a_block():
    """Seven hundred points are three blocks; with more charges, they are more."""

    def blocks_of(more):
        charges, positions, grid, _ = charges_and_grid(0, 700)
        operands = single(*(np.repeat(each, more, axis=1) for each in (charges, positions)), grid)
        slope = jax.grad(lambda q: electrostatics.esp(q, *operands[1:]).sum())
        scans = [e for e in jax.make_jaxpr(slope)(operands[0]).eqns if e.primitive.name == "scan"]
        return scans[-1].params["length"]

    assert [blocks_of(more) for more in (1, 4, 1000)] == [3, 11, 44]


@pytest.mark.parametrize("operand", range(3), ids=["charges", "positions", "grid"])
def test_gradients_equal_finite_differences(operand):
    """Independent of any derivation: the float64 Coulomb sum, differenced numerically."""
    *operands, rng = charges_and_grid(5, 30)
    c = rng.normal(size=(B, 30))
    found = np.asarray(gradients(*single(*operands, c))[operand])
    step = 1e-5
    for _ in range(12):
        index = tuple(rng.integers(size) for size in operands[operand].shape)
        values = []
        for sign in (1, -1):
            moved = [array.copy() for array in operands]
            moved[operand][index] += sign * step
            values.append((c * esp64(*moved)).sum())
        difference = (values[0] - values[1]) / (2 * step)
        np.testing.assert_allclose(found[index], difference, rtol=1e-3, atol=1e-5)


def test_masked_points_and_padding_charges_on_top_of_atoms_stay_finite():
    """Padding lies at the origin, and so may a real atom; neither may hurt the gradient."""
    charges, positions, grid, rng = charges_and_grid(3, 40)
    positions[:, 0], charges[:, -1], positions[:, -1] = 0, 0, 0
    grid[:, -1] = 0
    c = rng.normal(size=(B, 40))
    c[:, -1] = 0
    shorter = gradients(*single(charges[:, :-1], positions[:, :-1], grid[:, :-1], c[:, :-1]))
    padded = gradients(*single(charges, positions, grid, c))
    for with_padding, plain in zip(padded[:2], shorter[:2], strict=True):
        np.testing.assert_allclose(with_padding[:, : K - 1], plain, rtol=1e-5, atol=1e-6)
        assert np.isfinite(with_padding).all()
    np.testing.assert_array_equal(padded[2][:, -1], 0)


@settings(max_examples=20)
@given(seed=seeds)
def test_esp_does_not_change_under_rigid_motion(seed):
    charges, positions, grid, rng = charges_and_grid(seed, 40)
    matrix = random_orthogonal(rng, reflect=bool(rng.integers(2)))
    shift = rng.normal(size=3)
    still = esp(*single(charges, positions, grid))
    moved = esp(*single(charges, positions @ matrix.T + shift, grid @ matrix.T + shift))
    np.testing.assert_allclose(moved, still, rtol=1e-4, atol=1e-5)


@settings(max_examples=20)
@given(seed=seeds)
def test_dipole_and_quadrupole_are_sums_over_charges(seed):
    charges, positions, _, _ = charges_and_grid(seed, 1)
    dipole, quadrupole = np.zeros((B, 3)), np.zeros((B, 3, 3))
    for b in range(B):
        for q, x in zip(charges[b], positions[b], strict=True):
            dipole[b] += q * x
            quadrupole[b] += q * np.outer(x, x)
    found = moments(*single(charges, positions))
    for moment, expected in zip(found, (dipole, quadrupole), strict=True):
        np.testing.assert_allclose(moment, expected, rtol=1e-5, atol=2e-6)


def test_gradients_of_dipole_and_quadrupole_equal_the_closed_form():
    charges, positions, _, rng = charges_and_grid(8, 1)
    a, b = rng.normal(size=(B, 3)), rng.normal(size=(B, 3, 3))

    def contracted(q, x):
        return (electrostatics.dipole(q, x) * a).sum() + (electrostatics.quadrupole(q, x) * b).sum()

    d_charges, d_positions = jax.grad(contracted, argnums=(0, 1))(*single(charges, positions))
    along = np.einsum("bkx,bxy,bky->bk", positions, b, positions)
    np.testing.assert_allclose(
        d_charges, np.einsum("bkx,bx->bk", positions, a) + along, rtol=1e-4, atol=1e-5
    )
    symmetric = np.einsum("bxy,bky->bkx", b + b.swapaxes(1, 2), positions)
    np.testing.assert_allclose(
        d_positions, charges[..., None] * (a[:, None] + symmetric), rtol=1e-4, atol=1e-5
    )
