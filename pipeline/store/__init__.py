"""Molecules and results in Zarr: opened, written, appended to and published whole."""
