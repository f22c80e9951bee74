"""What is true of a source: every key's meaning and unit, settled by physics on a sample.

Atoms give the unit of positions, and positions that of the grid. What is electric, the ESP,
charges, dipoles and quadrupoles, is then read together, and so are energies and forces.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from pipeline.adapters.columns import Block
from pipeline.adapters.protocol import Source
from pipeline.declarations import Declarations
from pipeline.inference import energies, forces, lengths, moments, quadrupoles
from pipeline.inference.hypothesis import Hypothesis, certain, curve, weigh
from pipeline.inference.interpretation import Interpretation, Interpreter
from pipeline.inference.joint import Others, Weighed, alone, together
from pipeline.inference.potential import Fitted, fitted_charges, potential_units
from pipeline.inference.questions import CONFIDENT
from pipeline.inference.reference import (
    Reference,
    line,
    moments_of_esp,
    moments_of_monopoles,
    rough_references,
)
from pipeline.inference.shapes import METADATA
from pipeline.structure import Atoms, Grid, numeric, read_atoms, read_grid
from store_schema import VARIABLES, KeyRecord, Variable
from store_schema.names import MOLECULE, QUARANTINE_GROUP, RESULTS_GROUP
from store_schema.problems import ConfigError, SourceError
from store_schema.semantics import UNKNOWN

_ELECTRIC = (
    "esp",
    "atomic_charges",
    "dipole_magnitude",
    "molecular_dipole_vector",
    "quadrupole_components",
    "quadrupole_tensor",
    "total_charge",
)
# Rounding of a grid that was written twice changes what charges leave of the ESP by less.
_WORSE = 2.0
# Relative error of an ESP, or of charges, under a second key.
_REPEATED = 0.01
# In e; declared net charges further from what the ESP gives are wrong.
_CONTRADICTED_CHARGE = 0.5
_CELLS = ("cell", "cells", "unit_cell", "lattice", "lattice_vectors", "box", "pbc")
_NOT_NAMES = {QUARANTINE_GROUP, RESULTS_GROUP, *VARIABLES}


@np.errstate(invalid="ignore", over="ignore")  # what is absurdly large fits nothing
def interpret(
    source: Source, sample: Block, declarations: Declarations, only: Sequence[str] = ()
) -> Interpretation:
    """Settles what every key of a source means.

    Args:
        source: The source.
        sample: Some of its molecules.
        declarations: What the user declared.
        only: Variables that are asked for; nothing is asked about others. All, if empty.

    Raises:
        SourceError: There are no atoms.
        AmbiguityError: Physics leaves several readings, or none.
        ConfigError: A declaration contradicts shape or physics.
    """
    work = Interpreter(source, sample, declarations, only)
    _check_declared_meanings(work)
    for semantics in ("molecule_id", "n_atoms", "n_grid", "atomic_numbers", "esp_mask"):
        work.take_plain(semantics)
    for semantics in sorted(work.keys.keys() - {"positions", "atomic_numbers"}):
        work.missing(semantics)
    atoms = _positions(work)
    _discard_width(work, atoms)
    grid = _grid(work, atoms)
    reference = _electric(work, atoms, grid)
    _energies(work, atoms)
    _check_declared_charge(work, reference)
    derives = "total_charge" not in work.readings and declarations.total_charge is None
    if derives and reference is None:
        work.warnings.append("the net charge is not known: no charge, ESP or monopoles")
    kept = _keep_rest(work)
    return Interpretation(
        readings=work.readings,
        kept=kept,
        records=work.records,
        warnings=tuple(work.warnings),
        total_charge=declarations.total_charge,
        derives_charge=derives,
        declared=frozenset(work.declared),
        drop_inside=declarations.drop_inside,
    )


def _positions(work: Interpreter) -> Atoms:
    """Settles the unit of positions and returns the atoms in Å."""
    numbers = work.columns[work.readings["atomic_numbers"].key]
    key = work.next_key("positions")
    assert key is not None  # the layout has one
    atoms = read_atoms(numbers, work.columns[key])
    if work.whole and not atoms.mask.any():
        key = work.readings["atomic_numbers"].key
        raise _nothing_in(work, key, "atomic numbers above 0", "there are no atoms")
    candidates = lengths.position_units(atoms)
    declared = work.declarations.unit(key, "positions")
    if not np.nan_to_num(atoms.positions).any():
        if work.whole and (atoms.mask.sum(axis=1) > 1).all():
            raise _nothing_in(work, key, "positions", "the atoms would lie in one place")
        evidence = "all atoms lie at the origin, so that their unit makes no difference"
        candidates = certain("positions", evidence, declared)
    elif not any(hypothesis.misfit for hypothesis in candidates):
        # Lone atoms have no bonds; a grid in the same unit still lies around them.
        candidates = [
            replace(hypothesis, semantics="positions")
            for hypothesis in lengths.grid_units(atoms, _raw_grid(work))
        ]
    factor = work.take(key, candidates).hypothesis.factor
    while (repeat := work.next_key("positions")) is not None:
        other = read_atoms(numbers, work.columns[repeat])
        work.take(repeat, lengths.position_units(other))
    return atoms._replace(positions=atoms.positions * factor)


def _nothing_in(work: Interpreter, key: str, expected: str, consequence: str) -> SourceError:
    return SourceError.of(
        f"{work.source.place}, {key}",
        expected=expected,
        received="nothing but zeros",
        consequence=f"{consequence}, and nothing was stored",
        remedy="Look at how the file was written, or leave the key out",
    )


def _discard_width(work: Interpreter, atoms: Atoms) -> None:
    """Discards numbers of atoms that are the padded width, not counts."""
    reading = work.readings.get("n_atoms")
    if reading is None:
        return
    width = work.source.layout.max_atoms
    given = numeric(work.columns[reading.key])
    if (given == width).all() and (atoms.mask.sum(axis=1) < width).all():
        del work.readings["n_atoms"]
        record = work.records[reading.key]
        evidence = (f"it is the padded width of {width}, not a number of atoms",)
        work.records[reading.key] = record.model_copy(
            update={"stored_as": "", "evidence": evidence}
        )
        work.warnings.append(f"{reading.key} is the padded width; atoms were counted instead")


def _raw_grid(work: Interpreter, surface: str | None = None) -> Grid:
    counted: tuple[str, ...] = ("n_grid", "esp_mask")
    keys = {name: work.readings[name].key for name in counted if name in work.readings}
    for name in ("vdw_surface", "esp"):
        if (key := work.next_key(name)) is not None:
            keys[name] = key
    if surface is not None:
        keys["vdw_surface"] = surface
    return read_grid(work.columns, keys, work.n)


def _grid(work: Interpreter, atoms: Atoms) -> Grid:
    """Settles the unit of the grid and returns it in Å."""
    grid = _raw_grid(work)
    if work.whole and (key := work.next_key("esp")) and not np.nan_to_num(grid.esp).any():
        raise _nothing_in(work, key, "an ESP", "its molecules would all be set aside")
    weighed: dict[str, tuple[Grid, list[Hypothesis]]] = {}
    while (key := work.next_key("vdw_surface", after=weighed)) is not None:
        raw = _raw_grid(work, key)
        weighed[key] = raw, lengths.grid_units(atoms, raw)
    left = dict.fromkeys(weighed, 0.0)
    if len(weighed) > 1:
        left = {key: lengths.unexplained_on(atoms, raw) for key, (raw, _) in weighed.items()}
    for key in sorted(weighed, key=lambda key: left[key]):
        raw, candidates = weighed[key]
        first = work.readings.get("vdw_surface")
        if first is not None and left[key] > _WORSE * left[first.key]:
            evidence = (
                f"charges on the atoms leave {100 * left[key]:.0f} % of the ESP on it, and "
                f"{100 * left[first.key]:.0f} % on {first.key}"
            )
            work.leave(key, "vdw_surface", evidence)
            continue
        conclusion = work.take(key, candidates)
        if work.readings["vdw_surface"].key == key:
            grid = raw._replace(points=raw.points * conclusion.hypothesis.factor)
    return grid


def _electric(work: Interpreter, atoms: Atoms, grid: Grid) -> Reference | None:
    """Settles ESP, charges, dipoles and quadrupoles together; returns the moments they give."""
    fitted, of_esp = fitted_charges(atoms, grid), moments_of_esp(atoms, grid)
    keys = [
        key
        for key in work.source.layout.fits
        if key not in work.records and work.allowed(key) & {*_ELECTRIC} and work.is_asked(key)
    ]
    esp = work.next_key("esp") if fitted is not None else None
    mono = work.next_key("atomic_charges")
    if esp is not None:
        first, readings = esp, potential_units(atoms, grid, fitted)
    elif mono is not None:
        first, readings = mono, moments.charge_hypotheses(work.columns[mono], atoms)
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
                key, _readings(work, key, _Beside(atoms, grid, reference, rough, scaled, first))
            )
            for key in keys
            if key != first
        }

    own = work.weighed_as(first, readings) if first else readings
    _record_all(work, first, own, others)
    if "esp" not in work.readings:
        work.warnings.append("there is no ESP; a model cannot be trained on one")
    reference = _settled(work, atoms, of_esp)
    _atomic_dipoles(work, atoms, reference)
    return reference


def _record_all(work: Interpreter, first: str, own: Sequence[Hypothesis], others: Others) -> None:
    """Records keys that are read together, and that it was together where that settled one."""
    found = {key: weighed for key, weighed in together(first, own, others).items() if weighed}
    unsure = alone(own)[0].probability < CONFIDENT
    beside = " and ".join(key for key in found if key != first)
    for key, weighed in found.items():
        if key == first and unsure and beside:
            best, probability = weighed[0]
            text = f"{best.evidence}; with {beside} it makes sense in this unit alone"
            weighed[0] = Weighed(replace(best, evidence=text), probability)
        if key:
            work.record(key, weighed)


class _Beside(NamedTuple):
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


def _readings(work: Interpreter, key: str, beside: _Beside) -> list[Hypothesis]:
    """Readings of a key, each held against what it must agree with."""
    values, found = work.columns[key], []
    reference = beside.reference
    for semantics in sorted(work.allowed(key)):
        if semantics in ("dipole_magnitude", "molecular_dipole_vector"):
            told = [] if reference is None else [reference]
            if reference is None or not reference.is_sharp:
                told += [each for each in beside.rough if each.is_measured or reference is None]
            found += moments.dipole_hypotheses(semantics, values, told)
        elif semantics.startswith("quadrupole"):
            found += quadrupoles.quadrupole_hypotheses(semantics, values, reference)
        elif semantics == "total_charge":
            found += moments.total_charge_hypotheses(values, reference)
        elif semantics == "atomic_charges":
            found += moments.charge_hypotheses(values, beside.atoms, reference, beside.fitted)
        elif semantics == "atomic_dipoles" and len(work.allowed(key)) > 1:
            found += moments.atomic_dipole_hypotheses(values, beside.atoms, None, None)
        elif semantics == "esp" and beside.fitted is not None:
            found += _repeated(work, key, beside.first)
        elif semantics == "esp":
            found += potential_units(beside.atoms, beside.grid, None)
    declared = key in work.declarations.semantics
    return [h for h in found if not (declared and h.about_center)]  # as the store has them


def _repeated(work: Interpreter, key: str, first: str) -> list[Hypothesis]:
    """Readings of an ESP under a second key, beside the first."""
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


def _atomic_dipoles(work: Interpreter, atoms: Atoms, reference: Reference | None) -> None:
    """Settles dipoles of atoms, which with the monopoles make those of the molecules."""
    scaled = work.scaled("monopoles")
    monopoles = None if scaled is None else atoms.per_atom(scaled.reshape(work.n, -1))
    while (key := work.next_key("atomic_dipoles")) is not None:
        values = work.columns[key]
        work.take(key, moments.atomic_dipole_hypotheses(values, atoms, reference, monopoles))


def _check_declared_charge(work: Interpreter, reference: Reference | None) -> None:
    """Refuses a declared net charge that most molecules contradict."""
    declared = work.declarations.total_charge
    if declared is None or reference is None or "total_charge" in work.readings:
        return
    found = float(np.median(reference.charges))
    if abs(found - declared) > _CONTRADICTED_CHARGE and not work.declarations.force:
        raise ConfigError.of(
            f"{work.source.place}, --declare total_charge={declared:g}",
            expected=f"about {found:.2f}, which {reference.origin} gives",
            received=f"the declaration of {declared:g}",
            consequence="nothing was stored",
            remedy="Correct the declaration, or force it if you know better",
        )


def _net_charges(
    work: Interpreter, monopoles: Float[np.ndarray, "molecule atom"] | None
) -> Float[np.ndarray, " molecule"] | None:
    """Net charges as a key has them that can mean nothing else, as declared, or of monopoles."""
    key = work.next_key("total_charge")
    if key is not None:
        return work.columns[key].astype(np.float64).reshape(-1)
    declared = work.declarations.total_charge
    if declared is None and monopoles is not None:
        return np.rint(np.nansum(monopoles, axis=1))
    return None if declared is None else np.full(work.n, declared)


def _energies(work: Interpreter, atoms: Atoms) -> None:
    """Settles energies and forces together, then polarizabilities and centres of mass."""
    keys: list[str] = []
    while (key := work.next_of(("forces", "gradient"), after=keys)) is not None:
        keys.append(key)
    energy = work.next_key("energy")
    raw = None if energy is None else numeric(work.columns[energy]).reshape(-1)
    pulls = {key: atoms.per_atom(work.columns[key]) for key in keys}
    stretches = {key: forces.stretching(atoms, pull) for key, pull in pulls.items()}
    slopes = {
        key: None if raw is None else forces.slope_of(atoms, pull, raw)
        for key, pull in pulls.items()
    }

    own = certain("energy", "")
    if energy is not None and raw is not None:
        own = work.weighed_as(energy, energies.energy_units(atoms, raw))
    anchored = alone(own)[0].probability > CONFIDENT

    def others(reading: Hypothesis) -> Mapping[str, Sequence[Hypothesis]]:
        beside = reading if energy is not None else None
        return {
            key: work.weighed_as(
                key,
                forces.force_units(stretches[key], slopes[key], beside, anchored=anchored),
            )
            for key in keys
        }

    _record_all(work, energy or "", own, others)
    while (key := work.next_key("energy")) is not None:
        work.take(key, energies.energy_units(atoms, numeric(work.columns[key]).reshape(-1)))
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


def _check_declared_meanings(work: Interpreter) -> None:
    """Raises a ConfigError for a declared meaning that a key of its name and shape cannot have."""
    for key in work.declarations.semantics.keys() & work.source.columns.keys():
        known = work.meanings(key) if key in work.source.layout.fits else set()
        declared = work.declarations.semantics[key]
        if declared != UNKNOWN and declared not in known:
            raise ConfigError.of(
                f"{work.source.place}, {key} of shape {work.source.columns[key].shape}",
                expected=" or ".join(sorted(known)) or "no declaration, as nothing known fits it",
                received=f"the declaration of {declared}",
                consequence="nothing was stored",
                remedy="Correct the declaration, or rename or reshape the array",
            )


def _keep_rest(work: Interpreter) -> dict[str, Variable]:
    """Keeps unknown per-molecule keys under their own names, and records what is not stored."""
    kept: dict[str, Variable] = {}
    for key, column in work.source.columns.items():
        layout = work.source.layout
        record = KeyRecord(
            semantics="unknown",
            stored_as="",
            shape=column.shape,
            dtype=column.dtype.str.lstrip("<>|="),
            semantics_from="kept",
        )
        if key in layout.kept:
            name = re.sub(r"[^\w-]", "_", key).strip("_") or "unnamed"
            name = f"{name}_kept" if name in _NOT_NAMES or name in kept else name
            dims = (MOLECULE, *(f"{name}_{i + 1}" for i in range(len(layout.kept[key]))))
            # Objects are numbers or text, which shows only when they are read.
            text = work.columns[key].dtype.kind in "US"
            dtype = "str" if text else "float32" if column.dtype.itemsize < 4 else "float64"
            dtype = "float32" if column.dtype == np.float32 else dtype
            kept[key] = Variable(name, dims, dtype, "none", f"{key} of the source, as it was")
            work.records[key] = record.model_copy(update={"stored_as": name})
            work.warnings.append(f"{key} is not known and kept as it is")
        elif key in layout.ignored:
            reason = layout.ignored[key]
            semantics = "metadata" if reason == METADATA else "unknown"
            work.records[key] = record.model_copy(
                update={"semantics": semantics, "evidence": (reason,)}
            )
            if reason != METADATA:
                work.warnings.append(f"{key} is not stored: {reason}")
        if key.lower() in _CELLS:
            work.warnings.append(
                f"{key} is a unit cell; molecules are taken as they stand, without their images"
            )
    for key, reason in work.source.layout.ignored.items():
        if key not in work.source.columns:
            work.warnings.append(f"{key} is not stored: {reason}")
    return kept
