"""How readily each atom takes up charge that its molecule carries."""

from __future__ import annotations

import flax.linen as nn
import jax
from jaxtyping import Array, Float

from dcmnet.model.tensor_product import Irreps


class Softness(nn.Module):
    """Gives every atom a softness, by which it shares in the net charge.

    Charges that minimise sum(chi q + q^2 / (2 s)) of given sum, with electronegativities chi and
    softnesses s, are those of the atoms by themselves, -s chi, and of the rest a share of each
    atom that is proportional to s: equilibration of charges without their mutual Coulomb energy
    (A. K. Rappe, W. A. Goddard, J. Phys. Chem. 95 (1991) 3358). The network learns the first
    in its charge head, and s here. At the start all atoms are equally soft.
    """

    @nn.compact
    def __call__(self, features: Irreps) -> Float[Array, " N"]:
        """Returns the softness of every atom, positive, in no unit."""
        scalars = features[0, 0][:, 0]
        hidden = jax.nn.silu(nn.Dense(scalars.shape[-1])(scalars))
        return jax.nn.softplus(nn.Dense(1, kernel_init=nn.initializers.zeros)(hidden)[:, 0])
