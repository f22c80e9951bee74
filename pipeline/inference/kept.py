"""Keys whose meaning is not known: kept under their own names, or left out and said so."""

from __future__ import annotations

import re

import numpy as np

from pipeline.adapters.layout import METADATA
from pipeline.inference.interpretation import Interpreter
from store_schema import VARIABLES, KeyRecord, Variable
from store_schema.names import MOLECULE, QUARANTINE_GROUP, RESULTS_GROUP
from store_schema.semantics import meanings

_CELLS = ("cell", "cells", "unit_cell", "lattice", "lattice_vectors", "box", "pbc")
_NOT_NAMES = {QUARANTINE_GROUP, RESULTS_GROUP, *VARIABLES}


def _why(key: str, shape: tuple[int, ...]) -> str:
    """Why a key is kept: its name says nothing, or something that has another shape."""
    known = " or ".join(meaning.name for meaning in meanings(key))
    return f"has a shape, {shape}, that {known} do not have," if known else "is not known"


def keep_rest(work: Interpreter) -> dict[str, Variable]:
    """Keeps unknown per-molecule keys under their own names, and records what is not stored."""
    kept: dict[str, Variable] = {}
    declared = work.declarations.semantics
    for key, column in work.source.columns.items():
        layout = work.source.layout
        record = KeyRecord(
            semantics="unknown",
            stored_as="",
            shape=column.shape,
            dtype=column.dtype.str.lstrip("<>|="),
            semantics_from="kept",
        )
        if key in layout.kept:
            name = re.sub(r"[^\w-]", "_", key).strip("_") or "unnamed"
            name = f"{name}_kept" if name in _NOT_NAMES or name in kept else name
            dims = (MOLECULE, *(f"{name}_{i + 1}" for i in range(len(layout.kept[key]))))
            # Objects are numbers or text, which shows only when they are read.
            text = work.columns[key].dtype.kind in "US"
            dtype = "str" if text else "float32" if column.dtype.itemsize < 4 else "float64"
            dtype = "float32" if column.dtype == np.float32 else dtype
            kept[key] = Variable(name, dims, dtype, "none", f"{key} of the source, as it was")
            work.records[key] = record.model_copy(update={"stored_as": name})
            work.warnings.append(
                f"{key} {_why('' if key in declared else key, column.shape)} and kept as it is"
            )
        elif key in layout.ignored:
            reason = layout.ignored[key]
            semantics = "metadata" if reason == METADATA else "unknown"
            work.records[key] = record.model_copy(
                update={"semantics": semantics, "evidence": (reason,)}
            )
            if reason != METADATA:
                work.warnings.append(f"{key} is not stored: {reason}")
        if key.lower() in _CELLS:
            work.warnings.append(
                f"{key} is a unit cell; molecules are taken as they stand, without their images"
            )
    for key, reason in work.source.layout.ignored.items():
        if key not in work.source.columns:
            work.warnings.append(f"{key} is not stored: {reason}")
    return kept
