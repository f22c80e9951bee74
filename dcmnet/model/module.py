"""The assembled DCM-Net: a batch of molecules in, distributed charges out."""

from __future__ import annotations

from typing import cast

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dcmnet.config import ModelConfig
from dcmnet.model import Parameters
from dcmnet.model.charge_constraint import constrain_total_charge
from dcmnet.model.charge_head import ChargeHead
from dcmnet.model.message_passing import MessagePassing
from dcmnet.model.softness import Softness
from pipeline.loader import MoleculeBatch


class DCMNet(nn.Module):
    """Equivariant network that gives every atom a few displaced point charges.

    Build one with ``dcmnet.model.create_model``; the attributes are the fields of
    ``dcmnet.config.ModelConfig``.
    """

    features: int
    max_degree: int
    num_iterations: int
    num_basis_functions: int
    cutoff: float
    n_dcm: int
    include_pseudotensors: bool
    displacement_scale: float
    max_atomic_number: int
    charge_sharing: str = "equal"

    def __call__(
        self, batch: MoleculeBatch, constrain: bool = True
    ) -> tuple[Float[Array, "B A D"], Float[Array, "B A D 3"]]:
        """Predicts the charges of a batch.

        Args:
            batch: Molecules; targets are not looked at.
            constrain: Whether the charges are shifted to the total charge.

        Returns:
            Charges in e, zero on padding atoms, and their positions in angstrom.
        """
        # Cards would otherwise multiply matrices with ten bits of mantissa.
        with jax.default_matmul_precision("highest"):
            return self._predict(batch, constrain)

    @nn.compact
    def _predict(
        self, batch: MoleculeBatch, constrain: bool
    ) -> tuple[Float[Array, "B A D"], Float[Array, "B A D 3"]]:
        molecules, atoms = batch.atomic_numbers.shape
        atomic_numbers = jnp.asarray(batch.atomic_numbers).reshape(-1)
        nuclei = jnp.asarray(batch.positions)
        atom_mask = jnp.asarray(batch.atom_mask)
        features = MessagePassing(
            features=self.features,
            max_degree=self.max_degree,
            num_iterations=self.num_iterations,
            num_basis_functions=self.num_basis_functions,
            cutoff=self.cutoff,
            max_atomic_number=self.max_atomic_number,
            include_pseudotensors=self.include_pseudotensors,
            name="message_passing",
        )(
            atomic_numbers,
            nuclei.reshape(-1, 3),
            jnp.asarray(batch.pair_dst),
            jnp.asarray(batch.pair_src),
            jnp.asarray(batch.pair_mask),
        )
        charges, displacements = ChargeHead(
            n_dcm=self.n_dcm,
            displacement_scale=self.displacement_scale,
            max_atomic_number=self.max_atomic_number,
            name="charge_head",
        )(features, atomic_numbers)
        charges = charges.reshape(molecules, atoms, self.n_dcm)
        positions = nuclei[:, :, None, :] + displacements.reshape(molecules, atoms, self.n_dcm, 3)
        if not constrain:
            return jnp.where(atom_mask[:, :, None], charges, 0.0), positions
        softness = None
        if self.charge_sharing == "softness":
            softness = Softness(name="softness")(features).reshape(molecules, atoms)
        charges = constrain_total_charge(
            charges,
            atom_mask,
            jnp.asarray(batch.total_charge),
            jnp.asarray(batch.has_total_charge),
            softness,
        )
        return charges, positions


def create_model(config: ModelConfig | None = None, **fields: object) -> DCMNet:
    """Makes a network.

    Args:
        config: Its configuration; the default one where left out.
        **fields: Fields of ``ModelConfig`` to set on it, such as ``n_dcm=7``.

    Raises:
        ConfigError: A field is unknown or out of its bounds.
    """
    return DCMNet(**(config or ModelConfig()).updated(**fields).model_dump())


def distributed_charges(
    network: DCMNet, params: Parameters, batch: MoleculeBatch
) -> tuple[Float[Array, "B A D"], Float[Array, "B A D 3"]]:
    """Returns the charges of a batch, exact in sum, and their positions (e, angstrom)."""
    return cast("tuple[Array, Array]", network.apply(params, batch))
