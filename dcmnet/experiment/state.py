"""The state of a training run: what an update changes, and a checkpoint keeps."""

from __future__ import annotations

from typing import Any, NamedTuple

from jaxtyping import Array, Int
from pydantic import BaseModel, ConfigDict, Field

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


class Progress(BaseModel):
    """Where a run stands; kept in each checkpoint.

    Attributes:
        epoch: Epochs finished.
        best: Lowest validation criterion so far.
        best_epoch: Its epoch.
        under_way: State of an epoch that was stopped in the middle.
        iterator: Place of the next batch.
        seconds: Time trained so far, for the time limit.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings")

    epoch: int = Field(ge=0)
    best: float = float("inf")
    best_epoch: int = Field(default=0, ge=0)
    under_way: dict[str, Any] | None = None
    iterator: dict[str, Any] | None = None
    seconds: float = Field(default=0.0, ge=0)
