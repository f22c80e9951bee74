"""Harmonics, their coupling and radial functions are those of e3x."""

import e3x
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dcmnet.model.message_passing import bernstein
from dcmnet.model.spherical import clebsch_gordan, spherical_harmonics
from dcmnet.model.tensor_dense import TensorDense


@pytest.fixture
def displacements(rng):
    return jnp.asarray(rng.normal(size=(20, 3)), jnp.float32)


@pytest.mark.parametrize("max_degree", range(5))
def test_harmonics_and_their_slopes(displacements, max_degree):
    def of(harmonics):
        def apart(displacement):
            return harmonics(displacement / jnp.linalg.norm(displacement))

        return jax.vmap(apart)(displacements), jax.vmap(jax.jacobian(apart))(displacements)

    ours = of(lambda one: spherical_harmonics(one[None], max_degree)[0])
    theirs = of(lambda one: e3x.so3.spherical_harmonics(one, max_degree))
    for found, expected in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(found, expected, atol=3e-5)


def test_coefficients_are_orthonormal_and_those_of_e3x():
    table = clebsch_gordan(3)
    np.testing.assert_allclose(table, e3x.so3.clebsch_gordan(3, 3, 3), atol=1e-6)
    two_by_two = table[4:9, 4:9, :9].reshape(25, 9)
    np.testing.assert_allclose(two_by_two.T @ two_by_two, np.eye(9), atol=1e-6)


@pytest.mark.parametrize("num", [1, 2, 16, 64])
def test_radial_functions_and_their_slopes(num):
    distances = jnp.linspace(0.2, 12.0, 50)
    for of in (lambda f: f(distances), lambda f: jax.jacobian(f)(distances).sum(axis=2)):
        np.testing.assert_allclose(
            of(lambda r: bernstein(r, num)),
            of(lambda r: e3x.nn.reciprocal_bernstein(r, num)),
            atol=5e-5,
        )
    np.testing.assert_allclose(bernstein(distances, num).sum(axis=1), 1.0, rtol=1e-4)


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("max_degree", [1, 2, 3])
def test_the_product_of_a_dense_layers_halves(rng, channels, max_degree):
    x = jnp.asarray(rng.normal(size=(6, channels, (max_degree + 1) ** 2, 4)), jnp.float32)
    theirs = e3x.nn.TensorDense(3, max_degree=1, include_pseudotensors=False)
    ours = TensorDense(3, max_degree=1)
    params = theirs.init(jax.random.key(0), x)
    jax.tree.map(np.testing.assert_array_equal, ours.init(jax.random.key(0), x), params)
    found, back = jax.vjp(ours.apply, params, x)
    expected, back_of_e3x = jax.vjp(theirs.apply, params, x)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    cotangent = jnp.asarray(rng.normal(size=found.shape), jnp.float32)
    for a, b in zip(
        jax.tree.leaves(back(cotangent)), jax.tree.leaves(back_of_e3x(cotangent)), strict=True
    ):
        np.testing.assert_allclose(a, b, atol=1e-4)
