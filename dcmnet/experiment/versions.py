"""Versions of the packages that compute the numbers, for whoever wants the same ones."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterable
from typing import Final

VERSIONED: Final = ("dcm-store", "jax", "flax", "e3x", "optax", "numpy", "zarr")


def installed_versions(packages: Iterable[str] = VERSIONED) -> dict[str, str]:
    """Returns the version of each package."""
    return {package: importlib.metadata.version(package) for package in packages}
