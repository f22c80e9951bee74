"""Atoms and grids as arrays, radii and bonds, and charges fitted to an ESP."""
