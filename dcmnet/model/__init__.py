"""DCM-Net in Flax and e3x."""

from typing import Any, TypeAlias, cast

from jaxtyping import Array, Float

from dcmnet.config import ModelConfig
from dcmnet.model.module import DCMNet
from pipeline.loader import MoleculeBatch

__all__ = ["DCMNet", "Parameters", "create_model", "distributed_charges"]

Parameters: TypeAlias = dict[str, Any]


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
