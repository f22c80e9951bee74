"""From atom features to distributed charges and their positions."""

from __future__ import annotations

import e3x
import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from dcmnet.model.tensor_dense import TensorDense
from dcmnet.model.tensor_product import Irreps


class ChargeHead(nn.Module):
    """Gives every atom ``n_dcm`` charges displaced from its nucleus.

    A tensor-dense layer makes ``n_dcm`` features of degree 0 and 1. The scalars,
    through a dense layer and a bias an element, are the charges; the vectors,
    through a hard tanh times ``displacement_scale``, are the displacements. The
    hard tanh of e3x scales a whole vector, so it keeps equivariance.

    Attributes:
        n_dcm: Charges per atom.
        displacement_scale: Scale of the displacements, in angstrom; no bound, since the
            gate of a vector depends on the scalar beside it.
        max_atomic_number: Largest atomic number with a bias.
    """

    n_dcm: int
    displacement_scale: float
    max_atomic_number: int

    @nn.compact
    def __call__(
        self, features: Irreps, atomic_numbers: Int[Array, " N"]
    ) -> tuple[Float[Array, "N D"], Float[Array, "N D 3"]]:
        """Returns charges in e and displacements in angstrom."""
        x = TensorDense(self.n_dcm, max_degree=1)(features)
        charges = nn.Dense(self.n_dcm, use_bias=False)(x[:, 0, 0, :])
        element_bias = self.param(
            "element_bias", jax.nn.initializers.zeros, (self.max_atomic_number + 1,)
        )
        charges += element_bias[atomic_numbers][:, None]
        vectors = e3x.nn.hard_tanh(x)[:, 0, 1:4, :] * self.displacement_scale
        return charges, jnp.moveaxis(vectors, 1, 2)
