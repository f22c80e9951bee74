"""Streaming of batches from a store: planned, bucketed, shuffled, resumable."""

from pipeline.loader.batch import BatchShape, MoleculeBatch

__all__ = ["BatchShape", "MoleculeBatch"]
