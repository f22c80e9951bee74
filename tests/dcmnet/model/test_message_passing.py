"""Message passes are those of e3x, however the pairs are cut into blocks."""

import e3x
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dcmnet.model import convolution
from dcmnet.model.convolution import Pairs
from dcmnet.model.message_passing import MessagePass, added, gated
from dcmnet.model.tensor_dense import DenseByIrrep
from dcmnet.model.tensor_product import channels_of, irreps_of, put_together

ATOMS, PAIRS, BASIS, FEATURES = 7, 53, 5, 4


def apart(features):
    """Returns the irreps of an array as e3x has it."""
    channels, orders = features.shape[1:3]
    flat = features.reshape(len(features), channels * orders, -1)
    irreps = irreps_of(channels, int(np.sqrt(orders)) - 1)
    ends = np.cumsum([2 * degree + 1 for _, degree in irreps])
    return dict(zip(irreps, jnp.split(flat, ends[:-1], axis=1), strict=True))


def together(irreps):
    """Returns irreps as the array that e3x has."""
    array = put_together(irreps)
    return array.reshape(len(array), channels_of(irreps), -1, array.shape[-1])


def random_features(rng, channels, degree):
    shape = (ATOMS, channels, (degree + 1) ** 2, FEATURES)
    return jnp.asarray(rng.normal(size=shape), jnp.float32)


def geometry_and_features(seed, max_degree, sent_degree, channels):
    """Returns displacements of pairs in no symmetric order, and features of atoms."""
    rng = np.random.default_rng(seed)
    dst = np.sort(rng.integers(0, ATOMS, PAIRS)).astype(np.int32)
    src = rng.integers(0, ATOMS, PAIRS).astype(np.int32)
    displacements = rng.normal(size=(PAIRS, 3)).astype(np.float32)
    features = random_features(rng, channels, sent_degree)
    radial = rng.normal(size=(PAIRS, BASIS)).astype(np.float32)
    angular = e3x.so3.spherical_harmonics(
        displacements / np.linalg.norm(displacements, axis=1, keepdims=True), max_degree
    )
    return Pairs(jnp.asarray(dst), jnp.asarray(src), jnp.asarray(radial), angular), features


def of_e3x(params, features, pairs, max_degree, include_pseudotensors):
    basis = pairs.radial[:, None, None, :] * pairs.angular[:, None, :, None]
    layer = e3x.nn.MessagePass(max_degree=max_degree, include_pseudotensors=include_pseudotensors)
    return layer.apply(params, features, basis, dst_idx=pairs.dst, src_idx=pairs.src)


@pytest.mark.parametrize(
    ("sizes", "pairs_of_a_block"),
    [
        ((2, 0, 1, True), 10),
        ((2, 2, 1, True), 1000),
        ((1, 1, 2, True), 10),
        ((3, 3, 1, False), 1000),
    ],
)
def test_results_and_gradients_are_those_of_e3x(monkeypatch, pairs_of_a_block, sizes):
    max_degree, sent_degree, channels, pseudotensors = sizes
    monkeypatch.setattr(convolution, "_BLOCK", pairs_of_a_block * FEATURES)
    pairs, features = geometry_and_features(max_degree, max_degree, sent_degree, channels)
    layer = MessagePass(max_degree, pseudotensors)
    params = jax.jit(layer.init)(jax.random.key(0), apart(features), pairs)

    def ours(params, features, radial, angular):
        same = pairs._replace(radial=radial, angular=angular)
        return together(layer.apply(params, apart(features), same))

    def theirs(params, features, radial, angular):
        same = pairs._replace(radial=radial, angular=angular)
        return of_e3x(params, features, same, max_degree, pseudotensors)

    arguments = (params, features, pairs.radial, pairs.angular)

    def with_gradients(function):
        @jax.jit
        def both(*arguments):
            values, back = jax.vjp(function, *arguments)
            return values, back(jax.random.normal(jax.random.key(1), values.shape))

        return both(*arguments)

    (found, gradients), (expected, gradients_of_e3x) = map(with_gradients, (ours, theirs))
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4),
        gradients,
        gradients_of_e3x,
    )


def test_pairs_that_fill_up_a_batch_send_nothing():
    pairs, features = geometry_and_features(0, 2, 2, 1)
    layer = MessagePass(2, include_pseudotensors=True)
    features = apart(features)
    params = jax.jit(layer.init)(jax.random.key(0), features, pairs)
    more = Pairs(
        jnp.append(pairs.dst, jnp.full(9, ATOMS - 1)),
        jnp.append(pairs.src, jnp.full(9, ATOMS - 1)),
        jnp.append(pairs.radial, jnp.zeros((9, BASIS)), axis=0),
        jnp.append(pairs.angular, jnp.ones((9, 9)), axis=0),
    )
    found, expected = (layer.apply(params, features, each) for each in (more, pairs))
    assert found.keys() == expected.keys()
    for irrep, part in found.items():
        np.testing.assert_allclose(part, expected[irrep], atol=1e-5)


@pytest.mark.parametrize("channels", [1, 2])
def test_the_gate_is_the_silu_of_e3x(rng, channels):
    features = random_features(rng, channels, 2)
    found = together(gated(apart(features)))
    np.testing.assert_allclose(found, e3x.nn.silu(features), rtol=1e-6)


@pytest.mark.parametrize("channels", [1, 2])
def test_the_dense_layer_is_that_of_e3x(rng, channels):
    features = random_features(rng, channels, 2)
    theirs, ours = e3x.nn.Dense(3), DenseByIrrep(3)
    params = jax.jit(theirs.init)(jax.random.key(0), features)
    own = jax.jit(ours.init)(jax.random.key(0), apart(features))
    jax.tree.map(np.testing.assert_array_equal, own, params)
    found = together(ours.apply(params, apart(features)))
    np.testing.assert_allclose(found, theirs.apply(params, features), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("of_first", [(1, 0), (1, 2), (2, 2)])
@pytest.mark.parametrize("of_second", [(1, 0), (1, 2), (2, 1), (2, 2)])
def test_the_sum_is_that_of_e3x(rng, of_first, of_second):
    first, second = (random_features(rng, *each) for each in (of_first, of_second))
    expected = e3x.nn.add(first, second)
    found = added(apart(first), apart(second))
    whole = {irrep: found.get(irrep, 0 * part) for irrep, part in apart(expected).items()}
    np.testing.assert_array_equal(together(whole), expected)
