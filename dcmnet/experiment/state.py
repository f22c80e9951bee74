"""The state of a training run: what an update changes, and a checkpoint keeps."""

from __future__ import annotations

from typing import Any, NamedTuple

from jaxtyping import Array, Int

from dcmnet.model import Parameters


class TrainState(NamedTuple):
    """Everything an update changes.

    Attributes:
        params: Parameters of the network.
        ema_params: Their moving average; the parameters themselves where it is off.
        optimizer_state: State of the optimiser, schedule count included.
        updates: Updates so far.
    """

    params: Parameters
    ema_params: Parameters
    optimizer_state: Any
    updates: Int[Array, ""]
