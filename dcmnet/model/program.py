"""The network as a program for molecules of any size, traced once per machine."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Final

import jax
import jax.export
import jax.numpy as jnp
from jax.dtypes import canonicalize_dtype
from jaxtyping import Array, Bool, Float, Int

from dcmnet import model as networks
from dcmnet.config import ModelConfig
from dcmnet.model import Parameters
from dcmnet.model.tracing import Program, traced_once
from pipeline.loader import MoleculeBatch

# What a program takes of a batch, in this order.
_TAKEN: Final = (
    "atomic_numbers",
    "positions",
    "total_charge",
    "pair_dst",
    "pair_src",
    "pair_mask",
)

# Of a batch, exact in sum, and their positions (e, angstrom).
Charges = tuple[Float[Array, "B A D"], Float[Array, "B A D 3"]]
ChargesProgram = Callable[[Parameters, MoleculeBatch], Charges]


def charges_program(config: ModelConfig, params: Parameters) -> ChargesProgram:
    """Returns the function that a network is, compiled once for each shape of a batch.

    It is traced if this machine has not kept it, next to what XLA compiles. Every molecule of
    a batch is taken to say its net charge.

    Args:
        config: The network.
        params: Parameters of such a network, of which only the shapes count.
    """
    leaves, tree = jax.tree.flatten(params)
    return _program(
        config, tree, tuple((leaf.shape, canonicalize_dtype(leaf.dtype)) for leaf in leaves)
    )


@functools.cache
def _program(
    config: ModelConfig, tree: jax.tree_util.PyTreeDef, leaves: tuple[tuple[Any, Any], ...]
) -> ChargesProgram:
    def trace() -> Program:
        shapes = jax.tree.unflatten(tree, [jax.ShapeDtypeStruct(*leaf) for leaf in leaves])
        run = jax.jit(of_molecules(networks.create_model(config)))
        return jax.export.export(run)(shapes, *shapes_of_molecules())

    call = traced_once(f"charges {config.model_dump_json()}", trace).call

    @jax.jit
    def charges(params: Parameters, batch: MoleculeBatch) -> Charges:
        found: Charges = call(params, *(getattr(batch, name) for name in _TAKEN))
        return found

    return charges


def of_molecules(network: networks.DCMNet) -> Callable[..., Charges]:
    """Returns a network as a function of its parameters and of what it needs of molecules."""

    def run(  # noqa: PLR0917 - exported programs are called by place
        params: Parameters,
        atomic_numbers: Int[Array, "B A"],
        positions: Float[Array, "B A 3"],
        total_charge: Float[Array, " B"],
        pair_dst: Int[Array, " P"],
        pair_src: Int[Array, " P"],
        pair_mask: Bool[Array, " P"],
    ) -> Charges:
        B, A = atomic_numbers.shape
        atoms = atomic_numbers > 0
        real, nowhere = atoms[:, 0], jnp.zeros(B, bool)
        # The network does not look at targets; a batch has places for them.
        fields: dict[str, Any] = {
            "atomic_numbers": atomic_numbers,
            "positions": positions,
            "atom_mask": atoms,
            "total_charge": total_charge,
            "monopoles": jnp.zeros((B, A)),
            "esp": jnp.zeros((B, 0)),
            "vdw_surface": jnp.zeros((B, 0, 3)),
            "electric_field": jnp.zeros((B, 0, 3)),
            "grid_mask": jnp.zeros((B, 0), bool),
            "dipole": jnp.zeros((B, 3)),
            "dipole_magnitude": jnp.zeros(B),
            "quadrupole": jnp.zeros((B, 3, 3)),
            "molecule_mask": real,
            "molecule_index": jnp.zeros(B, jnp.int32),
            "has_total_charge": real,
            "has_monopoles": nowhere,
            "has_esp": nowhere,
            "has_electric_field": nowhere,
            "has_dipole": nowhere,
            "has_dipole_magnitude": nowhere,
            "has_quadrupole": nowhere,
            "pair_dst": pair_dst,
            "pair_src": pair_src,
            "pair_mask": pair_mask,
        }
        return networks.distributed_charges(network, params, MoleculeBatch(**fields))

    return run


def shapes_of_molecules() -> tuple[jax.ShapeDtypeStruct, ...]:
    """Returns what ``of_molecules`` takes after the parameters, for molecules of any size."""
    B, A, P = jax.export.symbolic_shape("B, A, P")
    return (
        jax.ShapeDtypeStruct((B, A), jnp.int32),
        jax.ShapeDtypeStruct((B, A, 3), jnp.float32),
        jax.ShapeDtypeStruct((B,), jnp.float32),
        jax.ShapeDtypeStruct((P,), jnp.int32),
        jax.ShapeDtypeStruct((P,), jnp.int32),
        jax.ShapeDtypeStruct((P,), jnp.bool_),
    )
