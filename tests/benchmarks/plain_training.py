"""Training the plain way: one molecule a step, padded, all pairs, all points.

The network of Boittier & Meuwly (arXiv 2602.07234) written straight from e3x, with the
sizes of its published training. It takes the parameters of `dcmnet.model` and gives the
same losses, so that only the way of computing is compared.
"""

import e3x
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from ase.units import Bohr

ATOMS = 60
POINTS = 3200
FAR_AWAY = 1e4  # where padded points lie, Å


class PlainNetwork(nn.Module):
    """All pairs of all padded atoms send messages; those of padding are multiplied by 0."""

    config: object

    @nn.compact
    def __call__(self, atomic_numbers, positions, pair_dst, pair_src):
        config = self.config
        basis = e3x.nn.basis(
            positions[pair_src] - positions[pair_dst],
            num=config.num_basis_functions,
            max_degree=config.max_degree,
            radial_fn=e3x.nn.reciprocal_bernstein,
            cutoff_fn=lambda r: e3x.nn.smooth_cutoff(r, cutoff=config.cutoff),
        )
        real = (atomic_numbers[pair_dst] > 0) & (atomic_numbers[pair_src] > 0)
        basis *= real[:, None, None, None]
        x = e3x.nn.Embed(config.max_atomic_number + 1, config.features)(atomic_numbers)
        for iteration in range(config.num_iterations):
            last = iteration == config.num_iterations - 1
            y = e3x.nn.MessagePass(
                max_degree=config.max_degree,
                include_pseudotensors=config.include_pseudotensors and not last,
            )(x, basis, dst_idx=pair_dst, src_idx=pair_src)
            y = e3x.nn.add(x, y)
            y = e3x.nn.Dense(config.features)(y)
            y = e3x.nn.silu(y)
            y = e3x.nn.Dense(config.features)(y)
            x = e3x.nn.add(x, y)
        x = e3x.nn.TensorDense(config.n_dcm, max_degree=1, include_pseudotensors=False)(x)
        charges = nn.Dense(config.n_dcm, use_bias=False)(x[:, 0, 0, :])
        bias = self.param("element_bias", nn.initializers.zeros, (config.max_atomic_number + 1,))
        charges += bias[atomic_numbers][:, None]
        vectors = e3x.nn.hard_tanh(x)[:, 0, 1:4, :] * config.displacement_scale
        return charges, positions[:, None] + jnp.moveaxis(vectors, 1, 2)


def plain_parameters(params):
    """Returns the parameters of `dcmnet.model` under the names of the plain network."""
    head = dict(params["params"]["charge_head"])
    passing = params["params"]["message_passing"]
    last = sum(name.startswith("Dense_") for name in passing)
    return {"params": {**passing, f"Dense_{last}": head.pop("Dense_0"), **head}}


def padded(molecule):
    """Returns a molecule padded as it was published."""
    n_atoms, n_grid = len(molecule["atomic_numbers"]), len(molecule["esp"])
    atoms, points = (0, ATOMS - n_atoms), (0, POINTS - n_grid)
    grid = np.pad(molecule["vdw_surface"], (points, (0, 0)), constant_values=FAR_AWAY)
    arrays = {
        "atomic_numbers": np.pad(molecule["atomic_numbers"], atoms),
        "positions": np.pad(molecule["positions"], (atoms, (0, 0))),
        "monopoles": np.pad(molecule["monopoles"], atoms),
        "total_charge": molecule["total_charge"],
        "n_atoms": n_atoms,
        "esp": np.pad(molecule["esp"], points),
        "vdw_surface": grid,
        "n_grid": n_grid,
    }
    return {
        name: np.asarray(array, np.float32 if np.asarray(array).dtype.kind == "f" else np.int32)
        for name, array in arrays.items()
    }


def plain_loss(network, config, params, molecule):
    """Returns the weighted losses of ESP and monopoles of one molecule."""
    pair_dst, pair_src = e3x.ops.sparse_pairwise_indices(ATOMS)
    charges, positions = network.apply(
        params, molecule["atomic_numbers"], molecule["positions"], pair_dst, pair_src
    )
    atoms = (jnp.arange(ATOMS) < molecule["n_atoms"])[:, None]
    charges = jnp.where(atoms, charges, 0)
    excess = charges.sum() - molecule["total_charge"]
    charges = jnp.where(atoms, charges - excess / (molecule["n_atoms"] * charges.shape[1]), 0)
    separation = molecule["vdw_surface"][:, None] - positions.reshape(-1, 3)[None]
    distance = jnp.linalg.norm(separation, axis=-1) / Bohr
    esp = jnp.sum(charges.reshape(-1) / distance, axis=-1)
    points = jnp.arange(POINTS) < molecule["n_grid"]
    esp_error = jnp.where(points, esp - molecule["esp"], 0) ** 2
    error = jnp.where(atoms[:, 0], charges.sum(axis=1) - molecule["monopoles"], 0) ** 2
    return (
        config.esp_w * 0.5 * esp_error.sum() / molecule["n_grid"]
        + config.chg_w * 0.5 * error.sum() / molecule["n_atoms"]
    )


def plain_step(network, config, optimizer):
    """Compiles `(params, state, molecule) -> (params, state, loss)`."""

    @jax.jit
    def step(params, state, molecule):
        loss, gradient = jax.value_and_grad(
            lambda params: plain_loss(network, config, params, molecule)
        )(params)
        changes, state = optimizer.update(gradient, state, params)
        return optax.apply_updates(params, changes), state, loss

    return step
