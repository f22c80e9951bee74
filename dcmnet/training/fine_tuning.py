"""Training that starts from another model's parameters, also with another number of charges."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dcmnet.config import ModelConfig
from dcmnet.experiment.directory import load_model
from dcmnet.model import Parameters
from dcmnet.model.initialization import initial_parameters, parameter_shapes
from store_schema.problems import CheckpointError

# Of a fresh initialisation, what copies get added: twins would have the same gradients,
# and stay twins for ever.
_UNLIKENESS = 0.1


def parameters_from(
    source: str | Path, network: ModelConfig, seed: int = 0, report: Callable[[str], object] = print
) -> Parameters:
    """Returns the parameters of another model, for a network that may differ in ``n_dcm``.

    The message passing is taken as it is. Where there are more charges per atom than
    before, each new one is a copy of an old one, and the copies share its charge: the
    monopoles, and nearly the ESP, of the new model are those of the old. A little of a
    fresh initialisation is added to the copies, or they would never come apart. Where
    there are fewer, the first ones are kept and scaled to about the same monopoles.

    Args:
        source: Experiment, model in the box, or published ``.pkl``.
        network: Network to train.
        seed: Of the fresh part.
        report: Called with the parameters that could not be taken as they are.

    Raises:
        CheckpointError: More than ``n_dcm`` differs; all shapes that do are named.
    """
    model = load_model(source)
    given, expected = _by_name(model.params), _by_name(parameter_shapes(network))
    other = [name for name in given if given[name].shape != getattr(expected.get(name), "shape", 0)]
    if not other and given.keys() == expected.keys():
        return jax.tree.map(jnp.asarray, model.params)
    same_but_charges = model.config.updated(n_dcm=network.n_dcm)
    differences = _differences(parameter_shapes(same_but_charges), parameter_shapes(network))
    if differences:
        raise CheckpointError.of(
            str(source),
            wrong="its parameters are of another network than the configured one, n_dcm aside "
            f"({'; '.join(differences[:4])})",
            consequence="training cannot start from it",
            remedy=f"Make it the same network: {_settings(model.config, network)}",
        )
    report(
        f"{source} has n_dcm {model.config.n_dcm}, the new network {network.n_dcm}: "
        f"{len(given) - len(other)} of {len(given)} parameter arrays are taken as they are; "
        f"made to fit are {', '.join(other)}, and the charges' bias"
    )
    fresh = initial_parameters(network, seed)
    return with_other_charges(model.params, fresh, model.config.n_dcm, network.n_dcm)


def with_other_charges(params: Parameters, fresh: Parameters, old: int, new: int) -> Parameters:
    """Returns parameters whose charge head makes ``new`` charges out of ``old``.

    Args:
        params: Of a network with ``old`` charges per atom.
        fresh: Initialised at random, of the same network with ``new`` ones.
        old: Charges per atom.
        new: Charges per atom.
    """
    origin = np.arange(new) % old
    copies = np.bincount(origin, minlength=old)[origin]
    head, fresh_head = params["params"]["charge_head"], fresh["params"]["charge_head"]

    def of_layer(array: Any, random: Any) -> Any:
        # The layer before the tensor product makes both of its factors side by side.
        factors = array.shape[-1] // old
        columns = np.concatenate([origin + factor * old for factor in range(factors)])
        is_copy = np.tile(np.arange(new) >= old, factors)
        return np.asarray(array)[..., columns] + _UNLIKENESS * is_copy * np.asarray(random)

    # A dense layer mixes the charges: a copied input counts once, a copied output is shared.
    share = 1.0 / copies if new >= old else np.full(new, old / new)
    mixing = np.asarray(head["Dense_0"]["kernel"])[np.ix_(origin, origin)]
    changed = {
        "TensorDense_0": jax.tree.map(of_layer, head["TensorDense_0"], fresh_head["TensorDense_0"]),
        "Dense_0": {"kernel": mixing / copies[:, None] * share},
        "element_bias": np.asarray(head["element_bias"]) * (old / new),
    }
    inner = {**params["params"], "charge_head": jax.tree.map(_as_float32, changed)}
    return jax.tree.map(jnp.asarray, {**params, "params": inner})


def _as_float32(array: Any) -> jax.Array:
    return jnp.asarray(array, jnp.float32)


def _settings(wanted: ModelConfig, network: ModelConfig) -> str:
    """Returns the options that turn one network into the other, but for the charges."""
    return " ".join(
        f"--set model.{name}={getattr(wanted, name)}"
        for name in ModelConfig.model_fields
        if name != "n_dcm" and getattr(wanted, name) != getattr(network, name)
    )


def _by_name(tree: Parameters) -> dict[str, Any]:
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): leaf
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }


def _differences(given: Parameters, expected: Parameters) -> list[str]:
    a, b = ({name: leaf.shape for name, leaf in _by_name(t).items()} for t in (given, expected))
    return [
        f"{name} is {a.get(name, 'absent')}, not {b.get(name, 'present')}"
        for name in sorted(a.keys() | b.keys())
        if a.get(name) != b.get(name)
    ]
