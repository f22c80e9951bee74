"""Streaming of batches from a store: planned, bucketed, shuffled, resumable."""

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
