"""Checks of forces: they neither move nor turn a molecule that stands alone."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from pipeline.chemistry.turning import net_and_turning
from pipeline.ingestion.canonical import CanonicalBlock
from pipeline.ingestion.finding import Finding

# Of the size of all forces, which sums and torques of quantum chemistry are a hundredth of, but
# for those at a minimum: in hartree/Å and hartree these are below the least.
_SHARE, _LEAST = 0.05, 0.02
# Of forces that users have declared, which may be those in a crystal or in a field.
_SHARE_DECLARED, _LEAST_DECLARED = 0.5, 1.0


def forces(block: CanonicalBlock) -> Iterator[Finding]:
    """Forces are there for all atoms, and those on a molecule cancel."""
    given = block.values.get("forces")
    if given is None:
        return
    atoms = block.atoms
    finite = np.isfinite(given).all(axis=-1)
    whole = (finite | ~atoms.mask).all(axis=1)
    partly = (finite & atoms.mask).any(axis=1) & ~whole
    yield Finding(partly, lambda _: "some of its atoms have no force")
    several = atoms.mask.sum(axis=1) > 1
    zero = whole & several & ~np.nan_to_num(given).any(axis=(1, 2))
    yield Finding(zero, lambda _: "its forces are all zero: they may stand for no value")
    net, turning = net_and_turning(atoms, given)
    declared = "forces" in block.declared
    share, least = (_SHARE_DECLARED, _LEAST_DECLARED) if declared else (_SHARE, _LEAST)
    moves = whole & several & (net.size > least) & (net.share > share)
    yield Finding(moves, lambda row: f"its forces sum to {net.size[row]:.2g} hartree/Å, not to 0")
    if declared:
        return
    turns = whole & ~moves & (turning.size > _LEAST) & (turning.share > _SHARE)
    yield Finding(
        turns,
        lambda row: (
            f"its forces turn it, by {turning.size[row]:.2g} hartree: its atoms may be in another "
            "order, or its axes turned"
        ),
    )
