"""What is electric in a file, read together: ESP, charges, dipoles and quadrupoles.

The ESP, or else the atomic charges, are what the others are held against.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from pipeline.chemistry.arrays import Atoms, Grid, numeric
from pipeline.inference import charges, dipoles, quadrupoles
from pipeline.inference.hypothesis import Hypothesis, certain, curve, unsettled, weigh
from pipeline.inference.interpretation import Interpreter
from pipeline.inference.potential import Fitted, fitted_charges, potential_units, shift_of
from pipeline.inference.reference import (
    Reference,
    line,
    moments_of_esp,
    moments_of_monopoles,
    rough_references,
)
from store_schema.problems import AmbiguityError

_ELECTRIC = (
    "esp",
    "atomic_charges",
    "dipole_magnitude",
    "molecular_dipole_vector",
    "quadrupole_components",
    "quadrupole_tensor",
    "total_charge",
)
# Relative error of an ESP, or of charges, under a second key.
_REPEATED = 0.01
# Part of the molecules that only multiplicities, read as charges, leave an odd number of electrons.
_MOSTLY = 0.5


def settle_electric(work: Interpreter, atoms: Atoms, grid: Grid) -> Reference | None:
    """Settles ESP, charges, dipoles and quadrupoles together; returns the moments they give."""
    fitted, of_esp = fitted_charges(atoms, grid), moments_of_esp(atoms, grid)
    keys = [
        key
        for key in work.source.layout.fits
        if key not in work.records and work.allowed(key) & {*_ELECTRIC} and work.is_asked(key)
    ]
    esp = work.next_key("esp") if fitted is not None else None
    mono = work.next_key("atomic_charges")
    if mono is not None:
        _refuse_formal(work, mono, atoms)
    if esp is not None:
        first, readings = esp, potential_units(atoms, grid, fitted)
    elif mono is not None:
        first, readings = mono, charges.charge_hypotheses(work.columns[mono], atoms)
    else:
        first, readings = "", certain("total_charge", "")
    values = None if mono is None else atoms.per_atom(work.columns[mono].reshape(work.n, -1))
    of_charges = None if values is None or esp is not None else moments_of_monopoles(atoms, values)
    rough = rough_references(atoms, _net_charges(work, values))

    def others(reading: Hypothesis) -> Mapping[str, Sequence[Hypothesis]]:
        source = of_esp if esp is not None else of_charges
        reference = None if source is None else source.scaled(reading.factor)
        scaled = None if fitted is None else fitted.scaled(reading.factor)
        return {
            key: work.weighed_as(
                key, _readings(work, key, _Context(atoms, grid, reference, rough, scaled, first))
            )
            for key in keys
            if key != first
        }

    own = work.weighed_as(first, readings) if first else readings
    work.record_together(first, own, others)
    if fitted is not None and "esp" in work.readings:
        scaled = fitted.scaled(work.readings["esp"].factor)
        _refuse_shifted(work, work.readings["esp"].key, shift_of(atoms, grid, scaled))
    if "esp" not in work.readings and not work.declarations.esp_points:
        work.warnings.append("there is no ESP, so no model can be trained on it")
    reference = _settled(work, atoms, of_esp)
    if reference is None:
        _doubt_multiplicities(work, atoms)
    return reference


class _Context(NamedTuple):
    """What keys are held against, given a reading of the first.

    Attributes:
        atoms: Atoms, in Å.
        grid: Grid in Å, ESP in the file's unit.
        reference: Moments of the ESP or the monopoles, in e·Å; None without either.
        rough: Dipoles of the electronegativities, and of small molecules by experiment.
        fitted: Charges that explain the ESP, in e.
        first: Key that all are held against; empty if there is none.
    """

    atoms: Atoms
    grid: Grid
    reference: Reference | None
    rough: list[Reference]
    fitted: Fitted | None
    first: str


def _readings(work: Interpreter, key: str, context: _Context) -> list[Hypothesis]:
    """Readings of a key, each held against what it must agree with."""
    values, found = work.columns[key], []
    reference = context.reference
    for semantics in sorted(work.allowed(key)):
        if semantics in ("dipole_magnitude", "molecular_dipole_vector"):
            references = [] if reference is None else [reference]
            if reference is None or not reference.is_sharp:
                references += [
                    each for each in context.rough if each.is_measured or reference is None
                ]
            point = work.declarations.point(key, semantics)
            found += dipoles.dipole_hypotheses(semantics, values, references, point)
        elif semantics.startswith("quadrupole"):
            form = work.declarations.quadrupole_form(key, semantics)
            found += quadrupoles.quadrupole_hypotheses(semantics, values, reference, *form)
        elif semantics == "total_charge":
            found += charges.total_charge_hypotheses(values, reference)
        elif semantics == "atomic_charges":
            found += charges.charge_hypotheses(values, context.atoms, reference, context.fitted)
        elif semantics == "atomic_dipoles" and len(work.allowed(key)) > 1:
            found += unsettled(semantics, "that takes a dipole of the molecule and monopoles")
        elif semantics == "esp" and context.fitted is not None:
            found += _repeated(work, key, context.first)
        elif semantics == "esp":
            found += potential_units(context.atoms, context.grid, None)
    return found


def _repeated(work: Interpreter, key: str, first: str) -> list[Hypothesis]:
    """Readings of an ESP under a second key, compared with the first."""
    ratio, _ = line(*(numeric(work.columns[name]).reshape(work.n, -1) for name in (key, first)))
    return weigh("esp", [curve(ratio, _REPEATED)], lambda _: f"it is {1 / ratio:.3g} times {first}")


def _settled(work: Interpreter, atoms: Atoms, of_esp: Reference | None) -> Reference | None:
    """Moments of the ESP or of the monopoles, as they were read."""
    if of_esp is not None and "esp" in work.readings:
        return of_esp.scaled(work.readings["esp"].factor)
    monopoles = work.scaled("monopoles")
    if monopoles is None:
        return None
    return moments_of_monopoles(atoms, atoms.per_atom(monopoles.reshape(work.n, -1)))


def _doubt_multiplicities(work: Interpreter, atoms: Atoms) -> None:
    """Raises an AmbiguityError for charges that may as well be spin multiplicities.

    A multiplicity is at least 1, and even where the number of electrons is odd. Taken for a
    charge, it leaves every molecule with an odd number of electrons. Some molecule is a radical
    ion, so that one composition is only worth a warning.
    """
    reading = work.readings.get("total_charge")
    if reading is None or work.records[reading.key].semantics_from == "declared":
        return
    charges = numeric(work.columns[reading.key]).reshape(-1)
    nuclei = np.where(atoms.mask, atoms.numbers, 0)
    electrons = np.rint(nuclei.sum(axis=1) - charges)
    odd = electrons % 2 == 1
    if (charges < 1).any() or odd.mean() < _MOSTLY:
        return
    which = "every molecule" if odd.all() else "most molecules"
    wrong = (
        f"they leave {which} an odd number of electrons, as spin multiplicities do when they are "
        "taken for charges"
    )
    if len(np.unique(np.sort(nuclei, axis=1), axis=0)) == 1:
        work.warnings.append(f"{reading.key} are taken for net charges, but {wrong}")
        return
    raise AmbiguityError.of(
        f"{work.source.place}, {reading.key}",
        wrong=f"these may not be net charges: {wrong}",
        consequence="a guess could be silently wrong, so nothing was stored",
        remedy=f"Say --declare {reading.key}=total_charge if they are charges of radicals, or "
        f"--declare {reading.key}=unknown if they are multiplicities",
    )


def _refuse_formal(work: Interpreter, key: str, atoms: Atoms) -> None:
    """Raises an AmbiguityError for charges of bonded atoms that are all whole numbers."""
    if key in work.declarations.semantics:
        return
    raw = work.columns[key]
    charges = atoms.per_atom(raw.reshape(work.n, -1))[atoms.mask.sum(axis=1) > 1]
    charges = charges[np.isfinite(charges)]
    whole = bool(charges.size) and bool((charges == np.rint(charges)).all())
    if not whole or not (charges.any() or raw.dtype.kind in "iu"):
        return
    raise AmbiguityError.of(
        f"{work.source.place}, {key}",
        wrong=f"its values are whole numbers, {charges.min():g} to {charges.max():g}, as formal "
        "charges are; charges of atoms in molecules are not",
        consequence="a model would learn them, so nothing was stored",
        remedy=f"Say --declare {key}=unknown to keep them as they are, or --declare "
        f"{key}=atomic_charges if they are meant so",
    )


def _refuse_shifted(work: Interpreter, key: str, shift: float) -> None:
    """Raises an AmbiguityError for an ESP that does not vanish far away."""
    if not shift or "esp" in work.declared:
        return
    raise AmbiguityError.of(
        f"{work.source.place}, {key}",
        wrong=f"the ESP seems to count from another zero: about {shift:.2g} hartree/e are added to "
        "that of the molecules, whose net charges would not be whole",
        consequence="charges cannot reproduce it, as in a periodic calculation; nothing was stored",
        remedy=f"Subtract what is added; --declare unit.{key}={work.records[key].unit} takes it as "
        "it is",
    )


def _net_charges(
    work: Interpreter, monopoles: Float[np.ndarray, "molecule atom"] | None
) -> Float[np.ndarray, " molecule"] | None:
    """Net charges as a key has them that can mean nothing else, as declared, or of monopoles."""
    key = work.next_key("total_charge")
    if key is not None:
        return numeric(work.columns[key]).reshape(-1)
    declared = work.declarations.total_charge
    if declared is None and monopoles is not None:
        return np.rint(np.nansum(monopoles, axis=1))
    return None if declared is None else np.full(work.n, declared)
