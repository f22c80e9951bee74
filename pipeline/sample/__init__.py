"""Real molecules that come with the package, in four conventions; see the README next to them."""

from __future__ import annotations

from pathlib import Path


def sample_sources() -> list[Path]:
    """Returns the sources of the bundled sample, ready for ``ingest``."""
    folder = Path(__file__).parent
    names = ("classic.npz", "ions.npz", "split_by_role", "one_file_per_molecule")
    return [folder / name for name in names]
