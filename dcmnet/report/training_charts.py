"""Charts of how a network trained."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go

from dcmnet.analysis.figures.style import MODEL_COLOUR, TRAIN_COLOUR
from dcmnet.analysis.figures.training import has_esp, training_curves, training_pace
from dcmnet.experiment.metrics import EpochRecord
from dcmnet.report.panel import Panel, chart, logarithmic

_EPOCH = {"title": "epoch", "rangemode": "tozero"}
_KEYS = {"training": TRAIN_COLOUR, "validation": MODEL_COLOUR}


def learning_panel(history: Sequence[EpochRecord]) -> Panel:
    """Returns loss and ESP RMSE of training and validation over the epochs."""
    last = history[-1]
    charts = [("Loss", _curves(history, "loss", "loss"))]
    description = (
        f"Curves over {len(history)} epochs: the loss ends at {_value(last.train, 'loss')} in "
        f"training and {_value(last.valid, 'loss')} in validation"
    )
    if has_esp(history):
        curves = _curves(history, "esp_rmse", "ESP RMSE (kcal/mol/e)", mark_best=True)
        charts.append(("Mean ESP RMSE per molecule", curves))
        description += (
            f"; the ESP RMSE at {_value(last.train, 'esp_rmse')} and "
            f"{_value(last.valid, 'esp_rmse')} kcal/mol/e"
        )
    return Panel(
        name="learning",
        charts=charts,
        keys=_KEYS,
        still=training_curves(history),
        alt=f"{description}.",
        caption="Training and validation over the epochs, on logarithmic axes. Training values "
        "are taken as the parameters move; validation uses the averaged parameters after each "
        "epoch, so early training values can lie above validation.",
    )


def pace_panel(history: Sequence[EpochRecord]) -> Panel:
    """Returns the learning rate and the share of time spent waiting for batches."""
    epochs = [record.epoch for record in history]
    rates = [record.learning_rate for record in history]
    waits = [record.input_wait_fraction for record in history]
    rate = chart(
        [_line(epochs, rates, MODEL_COLOUR, "learning rate")],
        _EPOCH,
        {"title": "learning rate", **_logarithmic(rates)},
        showlegend=False,
    )
    wait = chart(
        [_line(epochs, waits, MODEL_COLOUR, "waiting")],
        _EPOCH,
        {
            "title": "share of training time",
            "tickformat": ".0%",
            "range": [0, max(0.05, 1.1 * max(waits))],
        },
        showlegend=False,
    )
    return Panel(
        name="pace",
        charts=[("Learning rate", rate), ("Waiting for input", wait)],
        still=training_pace(history),
        alt=f"Two curves over the epochs: the learning rate, from {rates[0]:.1e} to "
        f"{rates[-1]:.1e}, and the share of time spent waiting for batches, at most "
        f"{max(waits):.1%}.",
        caption="Learning rate at the end of each epoch, and the share of the training time in "
        "which the device was idle because the next batch was not there yet.",
    )


def _curves(
    history: Sequence[EpochRecord], metric: str, label: str, mark_best: bool = False
) -> go.Figure:
    traces = []
    epochs = [record.epoch for record in history]
    shown: list[float] = []
    for part, title in (("train", "training"), ("valid", "validation")):
        values = [getattr(record, part).get(metric, math.nan) for record in history]
        if np.isfinite(values).any():
            traces.append(_line(epochs, values, _KEYS[title], title))
            shown += values
    best = [record for record in history if record.best and metric in record.valid]
    if mark_best and best:
        value = best[-1].valid[metric]
        traces.append(
            go.Scatter(
                x=[best[-1].epoch],
                y=[value],
                mode="markers+text",
                marker={"color": MODEL_COLOUR, "size": 9},
                text=[f"best {value:.2f}"],
                textposition="top center",
                textfont={"color": MODEL_COLOUR},
                name="best epoch",
                cliponaxis=False,
                hovertemplate="best: epoch %{x}, %{y:.3f}<extra></extra>",
            )
        )
    return chart(traces, _EPOCH, {"title": label, **_logarithmic(shown)}, showlegend=False)


def _logarithmic(values: Sequence[float]) -> dict[str, Any]:
    """Returns a logarithmic axis, or one from 0 where a value has no logarithm."""
    known = [value for value in values if math.isfinite(value)]
    if not known or min(known) <= 0:
        return {"rangemode": "tozero"}
    return logarithmic(min(known), max(known))


def _line(x: Sequence[float], y: Sequence[float], colour: str, name: str) -> Any:
    return go.Scatter(
        x=np.asarray(x, np.int32),
        y=np.asarray(y, np.float32),
        mode="lines" if len(x) > 2 else "lines+markers",
        line={"color": colour, "width": 2},
        name=name,
        hovertemplate="epoch %{x}: %{y:.4g}<extra>" + name + "</extra>",
    )


def _value(metrics: Mapping[str, float], name: str) -> str:
    return f"{metrics[name]:.3g}" if name in metrics else "no value"
