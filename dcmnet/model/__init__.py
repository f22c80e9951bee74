"""DCM-Net in Flax and e3x."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import lazy_loader

if TYPE_CHECKING:
    from dcmnet.model.module import DCMNet, create_model, distributed_charges

__all__ = ["DCMNet", "Parameters", "create_model", "distributed_charges"]

Parameters: TypeAlias = dict[str, Any]

# On first use: a program kept from an earlier start needs neither Flax nor e3x.
__getattr__, __dir__, _ = lazy_loader.attach(
    __name__, submod_attrs={"module": ["DCMNet", "create_model", "distributed_charges"]}
)
