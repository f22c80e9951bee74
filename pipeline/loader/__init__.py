"""Streaming of batches from a store: planned, bucketed, shuffled, resumable."""

from __future__ import annotations

from typing import TYPE_CHECKING

import lazy_loader

if TYPE_CHECKING:
    from pipeline.loader.batch import FIELDS, BatchShape, MoleculeBatch
    from pipeline.loader.dataset import BatchDataset, BatchIterator
    from pipeline.loader.in_memory import make_batch
    from pipeline.loader.make import make_loader
    from pipeline.loader.mixed import MixedDataset
    from pipeline.loader.parts import Part
    from pipeline.loader.plan import LoaderPlan, PlanReport

__all__ = [
    "FIELDS",
    "BatchDataset",
    "BatchIterator",
    "BatchShape",
    "LoaderPlan",
    "MixedDataset",
    "MoleculeBatch",
    "Part",
    "PlanReport",
    "make_batch",
    "make_loader",
]

# On first use: who makes a batch from arrays does not wait for Grain.
__getattr__, __dir__, _ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "batch": ["FIELDS", "BatchShape", "MoleculeBatch"],
        "dataset": ["BatchDataset", "BatchIterator"],
        "in_memory": ["make_batch"],
        "make": ["make_loader"],
        "mixed": ["MixedDataset"],
        "parts": ["Part"],
        "plan": ["LoaderPlan", "PlanReport"],
    },
)
