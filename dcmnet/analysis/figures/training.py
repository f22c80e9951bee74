"""Figures of how a network trained (Matplotlib)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from dcmnet.analysis.figures.style import MODEL_COLOUR, TRAIN_COLOUR, label_plainly, new_axes
from dcmnet.experiment.metrics import EpochRecord


def training_curves(history: Sequence[EpochRecord]) -> Figure:
    """Draws loss and ESP RMSE of training and validation over the epochs."""
    labels = {"loss": "loss", "esp_rmse": "mean ESP RMSE per molecule (kcal/mol/e)"}
    if not has_esp(history):
        del labels["esp_rmse"]
    figure, axes = new_axes(columns=len(labels))
    epochs = [record.epoch for record in history]
    for ax, (metric, label) in zip(axes, labels.items(), strict=True):
        for part, colour in (("train", TRAIN_COLOUR), ("valid", MODEL_COLOUR)):
            values = [getattr(record, part).get(metric, np.nan) for record in history]
            if np.isfinite(values).any():
                style = "o-" if len(epochs) < 3 else "-"
                ax.plot(epochs, values, style, color=colour, linewidth=1.8, label=part)
        ax.set_yscale("log")
        label_plainly(ax.yaxis)
        ax.set_xlabel("epoch")
        ax.set_ylabel(label)
        ax.legend(frameon=False)
    best = [record for record in history if record.best]
    if "esp_rmse" in labels and best and "esp_rmse" in best[-1].valid:
        value = best[-1].valid["esp_rmse"]
        axes[1].plot(best[-1].epoch, value, "o", color=MODEL_COLOUR)
        axes[1].annotate(
            f"best {value:.2f}",
            (best[-1].epoch, value),
            textcoords="offset points",
            xytext=(0, -8),  # where the curve is not
            ha="right" if best[-1].epoch > history[-1].epoch / 2 else "left",
            va="top",
            color=MODEL_COLOUR,
        )
    return figure


def has_esp(history: Sequence[EpochRecord]) -> bool:
    """Says whether any epoch has an error of the ESP, which data without one do not."""
    errors = [part.get("esp_rmse", np.nan) for r in history for part in (r.train, r.valid)]
    return bool(np.isfinite(errors).any())


def training_pace(history: Sequence[EpochRecord]) -> Figure:
    """Draws the learning rate, and the share of the time spent waiting for batches."""
    figure, (rate, wait) = new_axes(columns=2, height=3.2)
    epochs = [record.epoch for record in history]
    style = "o-" if len(epochs) < 3 else "-"
    learning_rates = [record.learning_rate for record in history]
    rate.plot(epochs, learning_rates, style, color=MODEL_COLOUR, linewidth=1.8)
    if min(learning_rates) > 0:
        rate.set_yscale("log")
    rate.set_xlabel("epoch")
    rate.set_ylabel("learning rate at the end of the epoch")
    waits = [record.input_wait_fraction for record in history]
    wait.plot(epochs, waits, style, color=MODEL_COLOUR, linewidth=1.8)
    wait.yaxis.set_major_formatter(PercentFormatter(xmax=1.0))
    wait.set_ylim(0.0, max(0.05, 1.1 * max(waits)))
    wait.set_xlabel("epoch")
    wait.set_ylabel("training time spent waiting for batches")
    return figure
