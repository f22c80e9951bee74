"""A convention that was written, and what is wrong with a store that was made of it."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import xarray as xr


@dataclass
class Written:
    """What was written.

    Attributes:
        source: What to hand to ingest.
        rows: Molecules of the dataset, in the order they were written.
        kind: Choices made, for the table of results.
        truth: Expected value of each variable, NaN padded.
        keys: Keys of each file.
    """

    source: str
    rows: np.ndarray
    kind: dict[str, str] = field(default_factory=dict)
    truth: dict[str, np.ndarray] = field(default_factory=dict)
    keys: list[str] = field(default_factory=list)


def permuted(values: np.ndarray, order: np.ndarray) -> np.ndarray:
    """Puts molecules into another order, also where their axis was merged with others."""
    return values.reshape(len(order), -1)[order].reshape(values.shape)


def fit(values: np.ndarray, width: int, pad: float) -> np.ndarray:
    """Pads the second axis to a width, and replaces NaN by the padding."""
    out = np.full((values.shape[0], width, *values.shape[2:]), pad)
    out[:, : values.shape[1]] = np.where(np.isnan(values), pad, values)
    return out


def matched(truth: np.ndarray, stored: np.ndarray) -> np.ndarray:
    """Row of the store of each molecule that was written, by its positions."""
    inside = np.nan_to_num(stored[:, : truth.shape[1]].astype(np.float64))
    apart = np.abs(np.nan_to_num(truth)[:, None] - inside[None]).max(axis=(2, 3))
    return apart.argmin(axis=1)


TOLERANCE = {
    "energy": 1e-6,
    "forces": 1e-5,
    "center_of_mass": 1e-2,
    "positions": 2e-4,
    "vdw_surface": 3e-4,
    "esp": 2e-6,
    "quadrupole": 5e-3,
    # In e·Å; less does not distinguish the points that dipoles are about.
    "dipole": 0.012,
    "dipole_magnitude": 0.012,
}


def mistakes(written: Written, stored: xr.Dataset) -> list[str]:
    """Variables of a store that are not what was written."""
    wrong = []
    if not len(stored.positions):
        return ["no molecule was stored"]
    rows = matched(written.truth["positions"], stored.positions.to_numpy())
    for name, truth in written.truth.items():
        if name not in stored:
            wrong.append(f"{name} is not there")
            continue
        values = stored[name].to_numpy().astype(np.float64)[rows]
        inside = tuple(map(slice, truth.shape))
        tolerance = TOLERANCE.get(name, 2e-3)
        if not np.allclose(values[inside], truth, rtol=2e-5, atol=tolerance, equal_nan=True):
            wrong.append(name)
        elif np.isfinite(values).sum() != np.isfinite(truth).sum():
            wrong.append(f"{name} beyond its padding")
    unasked = {"dipole", "dipole_magnitude", "quadrupole", "monopoles"} - written.truth.keys()
    if len(stored.positions) != len(written.rows):
        wrong.append(f"{len(stored.positions)} molecules of {len(written.rows)}")
    wrong += [
        f"{n} out of nothing" for n in unasked if n in stored and np.isfinite(stored[n]).any()
    ]
    return wrong
