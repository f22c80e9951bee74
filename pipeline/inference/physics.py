"""What is true of a source: every key's meaning and unit, settled by physics on a sample.

The order matters: atoms give the unit of positions, positions that of the grid, both
together the unit of the ESP; the ESP (or monopoles) then gives moments and charges that
dipoles, quadrupoles and charges are held against.
"""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
from jaxtyping import Float

from pipeline.adapters.columns import Block
from pipeline.adapters.protocol import Source
from pipeline.declarations import Declarations
from pipeline.inference import energies, lengths, moments, quadrupoles
from pipeline.inference.hypothesis import Hypothesis
from pipeline.inference.interpretation import Interpretation, Interpreter
from pipeline.inference.reference import Reference, reference_moments, rough_reference
from pipeline.structure import Atoms, Grid, read_atoms, read_grid
from store_schema import VARIABLES, KeyRecord, Variable
from store_schema.names import MOLECULE, QUARANTINE_GROUP, RESULTS_GROUP
from store_schema.problems import ConfigError, SourceError

_QUADRUPOLES = ("quadrupole_components", "quadrupole_tensor")
_DIPOLES = ("dipole_magnitude", "molecular_dipole_vector")
# Moments below this are rounding in any unit.
_NOTHING = 2e-4
# Rounding of a grid that was written twice changes what charges leave of the ESP by less.
_WORSE = 2.0
# In e; declared net charges further from what the ESP gives are wrong.
_CONTRADICTED_CHARGE = 0.5
_NOT_NAMES = {QUARANTINE_GROUP, RESULTS_GROUP, *VARIABLES}


@np.errstate(invalid="ignore", over="ignore")  # what is absurdly large fits nothing
def interpret(source: Source, sample: Block, declarations: Declarations) -> Interpretation:
    """Settles what every key of a source means.

    Args:
        source: The source.
        sample: Some of its molecules.
        declarations: What the user declared.

    Raises:
        SourceError: There are no atoms.
        AmbiguityError: Physics leaves several readings, or none.
        ConfigError: A declaration contradicts shape or physics.
    """
    work = Interpreter(source, sample, declarations)
    _check_declared_meanings(work)
    for semantics in ("molecule_id", "n_atoms", "n_grid", "atomic_numbers"):
        work.take_plain(semantics)
    for semantics in sorted(work.keys.keys() - {"positions", "atomic_numbers"}):
        work.missing(semantics)
    atoms = _positions(work)
    _discard_width(work, atoms)
    grid = _grid(work, atoms)
    while (key := work.next_key("atomic_charges")) is not None:
        work.take(key, moments.charge_hypotheses(work.columns[key], atoms, None))
    scaled = work.scaled("monopoles")
    monopoles = None if scaled is None else atoms.per_atom(scaled)
    grid = _potential(work, atoms, grid, monopoles, _net_charges(work))
    reference = reference_moments(atoms, grid, monopoles)
    _moments(work, atoms, reference, monopoles)
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
    if not np.nan_to_num(atoms.positions).any():
        if work.whole and (atoms.mask.sum(axis=1) > 1).all():
            raise _nothing_in(work, key, "positions", "the atoms would lie in one place")
        evidence = "all atoms lie at the origin, so that their unit makes no difference"
        candidates = [replace(h, evidence=evidence) for h in candidates if h.factor == 1]
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
    keys = {name: work.readings[name].key for name in ("n_grid",) if name in work.readings}
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


def _potential(
    work: Interpreter,
    atoms: Atoms,
    grid: Grid,
    monopoles: Float[np.ndarray, "molecule atom"] | None,
    charges: Float[np.ndarray, " molecule"] | None,
) -> Grid:
    """Settles the unit of the ESP and returns the grid with it in hartree/e."""
    raw = grid
    while (key := work.next_key("esp")) is not None:
        conclusion = work.take(key, moments.esp_units(atoms, raw, monopoles, charges))
        if work.readings["esp"].key == key:
            grid = raw._replace(esp=raw.esp * conclusion.hypothesis.factor)
    if "esp" not in work.readings:
        work.warnings.append("there is no ESP; a model cannot be trained on one")
    return grid


def _moments(
    work: Interpreter,
    atoms: Atoms,
    reference: Reference | None,
    monopoles: Float[np.ndarray, "molecule atom"] | None,
) -> None:
    """Settles charges, dipoles and quadrupoles, also where a shape fits two of them."""
    # Only dipoles are held against electronegativities, which know nothing of charges.
    rough = reference or rough_reference(atoms, _net_charges(work))
    for key in work.source.layout.fits:
        if key in work.records:
            continue
        declared = work.declarations.semantics.get(key)
        candidates: list[Hypothesis] = []
        for semantics in sorted({declared} if declared else work.meanings(key)):
            values = work.columns[key]
            if semantics in _DIPOLES:
                candidates += moments.dipole_hypotheses(semantics, values, rough)
            elif semantics in _QUADRUPOLES:
                candidates += quadrupoles.quadrupole_hypotheses(semantics, values, reference)
            elif semantics == "total_charge":
                candidates += moments.total_charge_hypotheses(values, reference)
            elif semantics == "atomic_charges":
                candidates += moments.charge_hypotheses(values, atoms, reference)
            elif semantics == "atomic_dipoles":
                candidates += moments.atomic_dipole_hypotheses(values, atoms, reference, monopoles)
        if work.whole and candidates and (np.abs(numeric(work.columns[key])) <= _NOTHING).all():
            evidence = "it is zero in every molecule, so that its unit makes no difference"
            candidates = [replace(h, misfit=0.0, evidence=evidence) for h in candidates[:1]]
        if declared:  # as the store has them
            candidates = [h for h in candidates if not h.about_center]
        if candidates:
            work.take(key, candidates)


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


def _net_charges(work: Interpreter) -> Float[np.ndarray, " molecule"] | None:
    """Net charges as a key has them that can mean nothing else, or as declared."""
    key = work.next_key("total_charge")
    if key is not None:
        return work.columns[key].astype(np.float64).reshape(-1)
    declared = work.declarations.total_charge
    return None if declared is None else np.full(work.n, declared)


def _energies(work: Interpreter, atoms: Atoms) -> None:
    """Settles energies, forces, polarizabilities and centres of mass."""
    while (key := work.next_key("energy")) is not None:
        values = numeric(work.columns[key]).reshape(-1)
        candidates = energies.energy_units(atoms, values)
        if key.lower() == "e_ev" and key not in work.declarations.units:
            candidates = [h for h in candidates if h.unit == "eV"]
        work.take(key, candidates)
    energy = work.readings.get("energy")
    while (key := work.next_key("forces")) is not None:
        hartrees = None
        if energy is not None:
            hartrees = numeric(work.columns[energy.key]).reshape(-1) * energy.factor
        work.take(key, energies.force_units(atoms, atoms.per_atom(work.columns[key]), hartrees))
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
        if declared not in known:
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
            semantics = "metadata" if not column.shape else "unknown"
            work.records[key] = record.model_copy(
                update={"semantics": semantics, "evidence": (reason,)}
            )
            if column.shape:
                work.warnings.append(f"{key} is not stored: {reason}")
    return kept


def numeric(values: np.ndarray) -> np.ndarray:
    """Returns numbers that may be written as text; what cannot be read is NaN."""
    if values.dtype.kind not in "US":
        return values.astype(np.float64)
    numbers = np.full(values.shape, np.nan)
    for index, text in np.ndenumerate(values):
        try:
            numbers[index] = float(text)
        except ValueError:
            continue
    return numbers
