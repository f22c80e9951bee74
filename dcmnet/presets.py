"""Settings to start a training from, by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

PRESETS: Final[Mapping[str, Mapping[str, object]]] = {
    "quick": {
        "training.optimizer": "muon",
        "training.esp_loss": "rmse",
        "training.num_epochs": 50,
        "training.learning_rate": 1e-2,
        "training.warmup_epochs": 3,
        "training.save_every_n_epochs": 50,
        "training.print_every_n_epochs": 10,
    },
    "quality": {
        "model.features": 32,
        "training.optimizer": "muon",
        "training.esp_loss": "rmse",
        "training.num_epochs": 500,
        "training.learning_rate": 1e-2,
        "training.warmup_epochs": 5,
        "training.ema_decay": 0.995,
        "training.save_every_n_epochs": 50,
        "training.print_every_n_epochs": 10,
        "training.summary_every_n_epochs": 50,
        "training.time_limit_minutes": 19,
    },
    # From a model that knows more molecules than these: so slow that it keeps what it knows.
    "finetune": {
        "training.num_epochs": 30,
        "training.learning_rate": 4e-5,
        "training.ema_decay": 0.9,
        "training.chg_w": 0.2,
        "training.save_every_n_epochs": 30,
        "training.print_every_n_epochs": 10,
        "training.summary_every_n_epochs": 30,
    },
}
