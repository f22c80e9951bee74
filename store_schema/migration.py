"""From the schema of an earlier release to the present one, a version at a time.

A store is never rewritten to be read: its schema is migrated in memory, and the next
append writes it in the present version. A release that changes the schema raises
``SCHEMA_VERSION`` and adds the step from the version before; the frozen stores of all
versions in ``tests/data`` hold it to that.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

Document = dict[str, Any]
Step = Callable[[Document], Document]


def _moments_of_atoms(document: Document) -> Document:
    """Version 2 knows moments of atoms above the dipole; version 1 kept them as they came.

    What was kept under a name that has a meaning now has the dimensions of a kept key, and no
    unit, by which it is told from what that name means. Nothing has to be changed.
    """
    return document


# From each version to the next.
STEPS: Final[dict[int, Step]] = {1: _moments_of_atoms}


def migrated(
    document: Mapping[str, Any], version: int, steps: Mapping[int, Step] = STEPS
) -> Document:
    """Returns a schema document in a version, as far as there are steps to it.

    Args:
        document: As it is in the store; left alone.
        version: Version to reach.
        steps: From each version to the next.
    """
    current = dict(document)
    found = current.get("version")
    while isinstance(found, int) and found < version and found in steps:
        current = steps[found](current)
        found += 1
        current["version"] = found
    return current
