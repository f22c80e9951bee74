"""Harmonics, their coupling and radial functions are those of e3x."""

import e3x
import flax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dcmnet.model.message_passing import bernstein
from dcmnet.model.spherical import clebsch_gordan, spherical_harmonics
from dcmnet.model.tensor_dense import TensorDense, TensorKernel
from dcmnet.model.tensor_product import Sizes
from tests.dcmnet.model.test_message_passing import apart


def with_slopes(function, *arguments):
    """Returns values, and products of a random vector with the Jacobian; in one program."""

    @jax.jit
    def both(*arguments):
        values, back = jax.vjp(function, *arguments)
        return values, back(jax.random.normal(jax.random.key(1), values.shape))

    return both(*arguments)


def assert_alike(ours, theirs, atol):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=atol), ours, theirs)


@pytest.mark.parametrize("max_degree", [0, 1, 4])
def test_harmonics_and_their_slopes(rng, max_degree):
    displacements = jnp.asarray(rng.normal(size=(20, 3)), jnp.float32)

    def of(harmonics):
        def function(displacements):
            lengths = jnp.linalg.norm(displacements, axis=1, keepdims=True)
            return harmonics(displacements / lengths, max_degree)

        return with_slopes(function, displacements)

    assert_alike(of(spherical_harmonics), of(e3x.so3.spherical_harmonics), atol=5e-5)


def test_coefficients_are_orthonormal_and_those_of_e3x():
    table = clebsch_gordan(3)
    np.testing.assert_allclose(table, e3x.so3.clebsch_gordan(3, 3, 3), atol=1e-6)
    two_by_two = table[4:9, 4:9, :9].reshape(25, 9)
    np.testing.assert_allclose(two_by_two.T @ two_by_two, np.eye(9), atol=1e-6)


@pytest.mark.parametrize("num", [1, 16, 64])
def test_radial_functions_and_their_slopes(num):
    distances = jnp.linspace(0.2, 12.0, 50)
    ours = with_slopes(lambda r: bernstein(r, num), distances)
    with jax.numpy_rank_promotion("allow"):
        theirs = with_slopes(lambda r: e3x.nn.reciprocal_bernstein(r, num), distances)
    assert_alike(ours, theirs, atol=2e-4)
    np.testing.assert_allclose(ours[0].sum(axis=1), 1.0, rtol=1e-4)


@pytest.mark.parametrize(("channels", "max_degree"), [(1, 1), (1, 3), (2, 2)])
def test_the_product_of_a_dense_layers_halves(rng, channels, max_degree):
    x = jnp.asarray(rng.normal(size=(6, channels, (max_degree + 1) ** 2, 4)), jnp.float32)
    theirs = e3x.nn.TensorDense(3, max_degree=1, include_pseudotensors=False)
    ours = TensorDense(3, max_degree=1)
    params = jax.jit(theirs.init)(jax.random.key(0), x)
    assert_alike(jax.jit(ours.init)(jax.random.key(0), apart(x)), params, atol=0)

    def product(params, x):
        return ours.apply(params, apart(x))

    assert_alike(with_slopes(product, params, x), with_slopes(theirs.apply, params, x), 1e-4)


@pytest.mark.parametrize("kernel", [None, jnp.ones((1, 2, 1, 2, 1, 2, 5))])
def test_a_kernel_that_does_not_fit_is_an_error(kernel):
    layer = TensorKernel(Sizes((1, 1, 1), (1, 1, 1)), 4)
    params = {} if kernel is None else {"params": {"kernel": kernel}}
    with pytest.raises(flax.errors.FlaxError, match="kernel"):
        layer.apply(params)
