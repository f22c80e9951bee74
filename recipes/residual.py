"""The cheap level brought near the good one: a network learns what GFN2-xTB lacks.

What is left of an ESP once that of GFN2-xTB is taken away is a quarter of it, and smoother. A
network that has learned it from some thousand molecules corrects the cheap ESP of many more, from
which the models in the box learn.

``python -m recipes.residual learnable good.zarr residual.zarr``
``python -m recipes.residual corrected broad.zarr corrected.zarr --models experiments/residual-*``
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, cast

import numpy as np
from rich.progress import track

from dcmnet import load_model
from dcmnet.model.molecule import Structure
from dcmnet.prediction import Predictor
from pipeline import ingest
from pipeline.reference.calculation import CalculationError
from pipeline.reference.tight_binding import TightBinding
from pipeline.structures import Geometry
from recipes.records import Record, records

_DECLARED: Final = {
    **{"esp": "esp", "unit.esp": "hartree/e", "unit.R": "angstrom", "mono": "atomic_charges"},
    **{"unit.vdw_surface": "angstrom", "unit.mono": "e"},
}


def learnable(store: Path, out: Path) -> None:
    """Writes a store of what GFN2-xTB lacks of the ESPs and monopoles of another."""
    cheap, found = TightBinding(), []
    for one in track(list(records(store)), "GFN2-xTB"):
        charge = round(float(one["total_charge"]))
        geometry = Geometry(str(one["id"]), str(one["id"]), one["Z"].astype(int), one["R"], charge)
        try:
            known = cheap(geometry, one["vdw_surface"].astype(np.float64), forces=False)
        except CalculationError:
            continue
        left = {"esp": one["esp"] - known.esp, "mono": one["mono"] - known.atomic.charges}
        found.append({**one, **left, "total_charge": np.float64(0)})
    _store(found, out)


def corrected(store: Path, models: Sequence[str], out: Path) -> None:
    """Writes a store of GFN2-xTB's ESPs with what networks say is lacking, on average."""
    predictors = [Predictor(load_model(model)) for model in models]
    every = list(records(store))
    structures = [
        Structure(str(one["id"]), str(one["id"]), one["Z"].astype(np.int64), one["R"], 0.0)
        for one in every
    ]
    lacking = [predictor.predict(structures) for predictor in predictors]
    for index, one in enumerate(track(every, "correcting")):
        parts = [predicted[index] for predicted in lacking]
        one["esp"] = one["esp"] + np.mean([p.esp(one["vdw_surface"]) for p in parts], axis=0)
        one["mono"] = one["mono"] + np.mean([p.monopoles for p in parts], axis=0)
    _store(every, out)


def _store(found: Sequence[Record], out: Path) -> None:
    columns = {
        "N": np.array([len(one["Z"]) for one in found]),
        "n_grid": np.array([len(one["esp"]) for one in found]),
    }
    for key in found[0]:
        values = [np.asarray(one[key]) for one in found]
        width = max((len(value) for value in values if value.ndim), default=0)
        columns[key] = np.stack([_padded(value, width) for value in values])
    scratch = out.with_suffix(".npz")
    np.savez(scratch, **cast("dict[str, Any]", columns))
    print(ingest([scratch], out, declare=_DECLARED, force=True))
    scratch.unlink()


def _padded(value: np.ndarray, width: int) -> np.ndarray:
    if not value.ndim:
        return value
    filling = 0 if value.dtype.kind in "iu" else np.nan
    room = [(0, width - len(value)), *[(0, 0)] * (value.ndim - 1)]
    return np.pad(value, room, constant_values=filling)


def main() -> None:
    """Makes the store that the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("learnable", "corrected"))
    parser.add_argument("store", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--models", nargs="+", default=[])
    asked = parser.parse_args()
    if asked.what == "learnable":
        learnable(asked.store, asked.out)
    else:
        corrected(asked.store, asked.models, asked.out)


if __name__ == "__main__":
    main()
