"""Sums over devices in few messages: the same numbers, and a message a type."""

import jax
import jax.numpy as jnp
import numpy as np

from dcmnet.training.processes.reductions import in_one


def test_a_tree_is_reduced_as_its_arrays_are_in_a_message_a_type(rng):
    """Of the three types each array comes back in its place, shape and type."""
    lanes = 4
    tree = {
        "a": rng.normal(size=(lanes, 3, 2)).astype(np.float32),
        "b": [rng.integers(0, 9, (lanes,)).astype(np.int32), rng.normal(size=(lanes,))],
        "c": {"d": rng.normal(size=(lanes, 0)).astype(np.float32), "e": ()},
        "f": rng.integers(0, 9, (lanes, 2)).astype(np.int32),
    }
    tree["b"][1] = jnp.asarray(tree["b"][1], jnp.bfloat16)
    messages = []

    def add(whole):
        messages.append(whole.dtype)
        return jax.lax.psum(whole, "lane")

    found = jax.vmap(lambda part: in_one(add, part), axis_name="lane")(tree)
    expected = jax.vmap(lambda part: jax.lax.psum(part, "lane"), axis_name="lane")(tree)
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)
    assert sorted(map(str, messages)) == ["bfloat16", "float32", "int32"]
