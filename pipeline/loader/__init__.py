"""Streaming of batches from a store: planned, bucketed, shuffled, resumable."""

from pipeline.loader.batch import BatchShape, MoleculeBatch
from pipeline.loader.molecules import make_batch

__all__ = ["BatchShape", "MoleculeBatch", "make_batch"]
