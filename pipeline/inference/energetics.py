"""Energies and forces, read together, and what follows from atoms alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from pipeline.chemistry.arrays import Atoms, numeric
from pipeline.inference import energies, forces, lengths
from pipeline.inference.hypothesis import Hypothesis, by_chance, certain
from pipeline.inference.interpretation import Interpreter
from pipeline.inference.joint import alone
from pipeline.inference.questions import CONFIDENT
from pipeline.inference.stretching import stretching
from store_schema.problems import AmbiguityError


def settle_energies(work: Interpreter, atoms: Atoms) -> None:
    """Settles energies and forces together."""
    keys: list[str] = []
    while (key := work.next_of(("forces", "gradient"), after=keys)) is not None:
        keys.append(key)
    energy = work.next_key("energy")
    raw = None if energy is None else numeric(work.columns[energy]).reshape(-1)
    pulls = {key: atoms.per_atom(work.columns[key]) for key in keys}
    stretches = {key: stretching(atoms, pull) for key, pull in pulls.items()}
    pairs = {
        key: None if raw is None else forces.near_pairs(atoms, pull, raw)
        for key, pull in pulls.items()
    }
    slopes = {key: None if near is None else near.slope() for key, near in pairs.items()}
    for key, pull in pulls.items():
        if key not in work.declarations.semantics and not work.is_nothing(key):
            _refuse_unrelated(work, key, forces.are_unrelated(atoms, pull, pairs[key]))
    own = certain("energy", "")
    if energy is not None and raw is not None:
        units = energies.energy_units(atoms, raw)
        # Energies that follow no rule may count from another zero, and be in another unit, than
        # those of another file of the folder.
        own = work.weighed_as(energy, units, alone=not any(h.misfit for h in units))
    # Energies in a factor of no unit would make the slopes anything.
    unlikely = sum(by_chance(slope.error) for slope in slopes.values() if slope is not None)
    own = [h if h.unit else replace(h, prior=h.prior + unlikely) for h in own]
    anchored = alone(own)[0].probability > CONFIDENT

    def others(reading: Hypothesis) -> Mapping[str, Sequence[Hypothesis]]:
        known = energy is not None and reading.unit is not None
        return {
            key: work.weighed_as(
                key,
                forces.force_units(
                    stretches[key],
                    slopes[key] if known else None,
                    reading if known else None,
                    anchored=anchored,
                ),
            )
            for key in keys
        }

    work.record_together(energy or "", own, others)
    while (key := work.next_key("energy")) is not None:
        work.take(key, energies.energy_units(atoms, numeric(work.columns[key]).reshape(-1)))


def _refuse_unrelated(work: Interpreter, key: str, wrong: str) -> None:
    """Raises an AmbiguityError for values that cannot be forces, if something says so."""
    if wrong:
        raise AmbiguityError.of(
            f"{work.source.place}, {key}",
            wrong=f"these cannot be forces on molecules that stand alone: {wrong}",
            consequence="atoms, axes or molecules may be in another order, or turned; nothing was "
            "stored",
            remedy=f"Look at its axes; --declare {key}=forces takes it as it is, "
            f"--declare {key}=unknown leaves it out",
        )


def settle_sizes(work: Interpreter, atoms: Atoms) -> None:
    """Settles polarizabilities and centres of mass."""
    while (key := work.next_key("polarizability")) is not None:
        tensors = work.columns[key].reshape(-1, 3, 3).astype(np.float64)
        work.take(key, energies.polarizability_units(atoms, tensors))
    while (key := work.next_key("center_of_mass")) is not None:
        candidates = lengths.center_units(atoms, work.columns[key].astype(np.float64))
        if min(h.misfit for h in candidates) > 2:
            # Often left as it was when a file was re-centred; a length like the positions.
            unit = work.records[work.readings["positions"].key].unit
            candidates = [replace(h, misfit=0.0) for h in candidates if h.unit == unit]
            work.warnings.append(f"{key} is not the centre of mass of the positions")
        work.take(key, candidates)
