"""What is true of a source: every key's meaning and unit, settled by physics on a sample.

Atoms give the unit of positions, and positions that of the grid. What is electric, the ESP,
charges, dipoles and quadrupoles, is then read together, and so are energies and forces.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from pipeline.adapters.columns import Block
from pipeline.adapters.protocol import Source
from pipeline.chemistry.arrays import Atoms, Grid, numeric, read_atoms, read_grid
from pipeline.inference import lengths
from pipeline.inference.atomic_multipoles import settle_atomic_multipoles
from pipeline.inference.declarations import Declarations
from pipeline.inference.electric import settle_electric
from pipeline.inference.energetics import settle_energies, settle_sizes
from pipeline.inference.fields import settle_fields
from pipeline.inference.hypothesis import Hypothesis, certain
from pipeline.inference.interpretation import Interpretation, Interpreter
from pipeline.inference.kept import keep_rest
from pipeline.inference.placement import Shift, displaced
from pipeline.inference.quadrupole_forms import COMPONENTS, QUADRUPOLES
from pipeline.inference.reference import Reference
from store_schema.problems import AmbiguityError, ConfigError, SourceError
from store_schema.semantics import UNKNOWN

# Rounding of a grid that was written twice changes what charges leave of the ESP by less.
_WORSE = 2.0
# In e; declared net charges further from what the ESP gives are wrong.
_CONTRADICTED_CHARGE = 0.5
# Part of the molecules that are smaller than the arrays where a count is the width of these.
_FEWER = 0.5


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
    declarations = declarations.with_those_of(source.metadata, source.place, source.columns)
    work = Interpreter(source, sample, declarations, only)
    _check_declared_meanings(work)
    for semantics in ("molecule_id", "n_atoms", "n_grid", "atomic_numbers", "esp_mask"):
        work.take_plain(semantics)
    for semantics in sorted(work.keys.keys() - {"positions", "atomic_numbers"}):
        work.missing(semantics)
    _doubt_charges_as_numbers(work)
    atoms = _positions(work)
    _discard_width(work, atoms)
    grid = _grid(work, atoms)
    reference = settle_electric(work, atoms, grid)
    settle_atomic_multipoles(work, atoms, grid, reference)
    settle_fields(work, atoms, grid)
    settle_energies(work, atoms)
    settle_sizes(work, atoms)
    _check_declared_charge(work, reference)
    derives = "total_charge" not in work.readings and declarations.total_charge is None
    if derives and reference is None:
        work.warnings.append("the net charge is not known: no charge, ESP or monopoles")
    kept = keep_rest(work)
    _check_declared_units(work)
    return Interpretation(
        readings=work.readings,
        kept=kept,
        records=work.records,
        warnings=tuple(work.warnings),
        total_charge=declarations.total_charge,
        derives_charge=derives,
        declared=frozenset(work.declared),
        drop_inside=declarations.drop_inside,
        esp_points=declarations.esp_points,
    )


def _doubt_charges_as_numbers(work: Interpreter) -> None:
    """Warns of charges that are taken for atomic numbers, and refuses those that are none."""
    key = work.readings["atomic_numbers"].key
    if key in work.declarations.semantics or "charge" not in key.lower() or "nuc" in key.lower():
        return
    values = numeric(work.columns[key])
    if (values < 0).any() or not (values > 1).any():
        raise AmbiguityError.of(
            f"{work.source.place}, {key}",
            wrong=f"no key has clear atomic numbers; this one has integers from {values.min():g} "
            f"to {values.max():g}, as formal charges or a mask of the atoms have",
            consequence="the elements are not known, so nothing was stored",
            remedy="Say which key has the atomic numbers with --declare KEY=atomic_numbers",
        )
    work.warnings.append(f"{key} is taken for atomic numbers, which no other key has")


def _positions(work: Interpreter) -> Atoms:
    """Settles the unit of positions and returns the atoms in Å."""
    numbers = work.columns[work.readings["atomic_numbers"].key]
    key = work.next_key("positions")
    assert key is not None  # the layout has one
    atoms = read_atoms(numbers, work.columns[key])
    if _padding_has_places(numbers, work.columns[key]):
        raise AmbiguityError.of(
            f"{work.source.place}, {work.readings['atomic_numbers'].key} and {key}",
            wrong="some atoms that have places of their own have the atomic number 0, as in an "
            "index of elements",
            consequence="atoms would be lost, so nothing was stored",
            remedy="Write atomic numbers or symbols instead of the index, or blank out the places",
        )
    if work.whole and not atoms.mask.any():
        key = work.readings["atomic_numbers"].key
        raise _nothing_in(work, key, "atomic numbers", "there are no atoms")
    candidates = lengths.position_units(atoms)
    declared = work.declarations.unit(key, "positions")
    if not np.nan_to_num(atoms.positions).any():
        if work.whole and (atoms.mask.sum(axis=1) > 1).all():
            raise _nothing_in(work, key, "positions", "the atoms would have no places of their own")
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


def _padding_has_places(numbers: np.ndarray, positions: np.ndarray) -> bool:
    """Whether slots of no element lie at places of their own in most molecules that have some."""
    if numbers.dtype.kind in "US":
        return False
    places = np.asarray(positions, np.float64)
    found = []
    for row, absent in enumerate(np.asarray(numbers) == 0):
        lost, real = places[row][absent], places[row][~absent]
        if len(lost) > 1 and len(real) and np.isfinite(lost).all():
            size = np.ptp(real, axis=0).max() if len(real) > 1 else 1.0
            apart = np.linalg.norm(lost[1:] - lost[0], axis=1)
            found.append(bool((apart > 0.01 * size).all() and (apart < 20 * size + 1e-9).all()))
    return bool(found) and bool(np.mean(found) > 0.5)


def _nothing_in(work: Interpreter, key: str, expected: str, consequence: str) -> SourceError:
    values = np.asarray(work.columns[key])
    is_lost = values.dtype.kind == "f" and not np.isfinite(values).any()
    return SourceError.of(
        f"{work.source.place}, {key}",
        wrong=f"all values are {'NaN or infinity' if is_lost else '0'}, which cannot be {expected}",
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
    fewer = atoms.mask.sum(axis=1) < width
    if (given == width).all() and fewer.mean() > _FEWER:
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
        _refuse_inverted_mask(work, key)
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
    if (reading := work.readings.get("vdw_surface")) is not None:
        _refuse_displaced(work, reading.key, displaced(atoms, grid))
    return grid


def _refuse_inverted_mask(work: Interpreter, key: str) -> None:
    """Raises a SourceError for a mask that leaves out the only points that have an ESP."""
    mask = work.readings.get("esp_mask")
    if mask is None or not np.nan_to_num(numeric(work.columns[key])).any():
        return
    raise SourceError.of(
        f"{work.source.place}, {mask.key}",
        wrong=f"{key} is 0 at all points that this mask marks, and only there",
        consequence="it may mark padding instead of points, and nothing was stored",
        remedy=f"Invert it, or leave it out with --declare {mask.key}=unknown",
    )


def _refuse_displaced(work: Interpreter, key: str, shift: Shift | None) -> None:
    """Raises an AmbiguityError for grids that do not lie around their molecules."""
    if shift is None or key in work.declarations.semantics:
        return
    raise AmbiguityError.of(
        f"{work.source.place}, {key}",
        wrong=(
            "the grids do not lie around their molecules: charges on the atoms explain the ESP "
            f"{shift.gain:.1f} times better if the grids are moved by {shift.distance:.2f} Å"
        ),
        consequence="the molecules may have been moved and their grids not, so nothing was stored",
        remedy=f"Look at how the file was written; --declare {key}=vdw_surface takes it as it is",
    )


def _check_declared_charge(work: Interpreter, reference: Reference | None) -> None:
    """Refuses a declared net charge that most molecules contradict."""
    declared = work.declarations.total_charge
    if declared is None or reference is None or "total_charge" in work.readings:
        return
    found = float(np.median(reference.charges))
    if abs(found - declared) > _CONTRADICTED_CHARGE and not work.declarations.force:
        raise ConfigError.of(
            f"{work.source.place}, --declare total_charge={declared:g}",
            wrong=f"the values contradict it: {reference.origin} gives about {found:.2f}",
            consequence="nothing was stored",
            remedy="Correct the declaration, or force it if you know better",
        )


def _check_declared_units(work: Interpreter) -> None:
    """Raises a ConfigError for the declared unit of a key that has none."""
    for key in work.declarations.units.keys() & work.records.keys():
        record = work.records[key]
        if record.stored_as and not record.unit:
            raise _meaningless(work, key, f"unit.{key}", "which have no unit")
    for key in work.declarations.orders.keys() & work.records.keys():
        if work.records[key].semantics != COMPONENTS:
            raise _meaningless(work, key, f"order.{key}", "not six components of a quadrupole")
    for key in work.declarations.conventions.keys() & work.records.keys():
        if work.records[key].semantics not in QUADRUPOLES:
            raise _meaningless(work, key, f"convention.{key}", "not quadrupoles of molecules")


def _meaningless(work: Interpreter, key: str, declared: str, wrong: str) -> ConfigError:
    """The error that what is declared of a key makes no sense of what it is."""
    semantics = work.records[key].semantics
    what = "kept as they are" if semantics == UNKNOWN else semantics.replace("_", " ")
    return ConfigError.of(
        f"{work.source.place}, --declare {declared}={work.declarations.text[declared]}",
        wrong=f"the values of {key} are {what}, {wrong}",
        consequence="nothing was stored",
        remedy=f"Leave it out, or say what {key} is with --declare {key}=MEANING",
    )


def _check_declared_meanings(work: Interpreter) -> None:
    """Raises a ConfigError for a declared meaning that a key of its name and shape cannot have."""
    for key in work.declarations.semantics.keys() & work.source.columns.keys():
        known = work.meanings(key) if key in work.source.layout.fits else set()
        declared = work.declarations.semantics[key]
        if declared != UNKNOWN and declared not in known:
            raise ConfigError.of(
                f"{work.source.place}, {key} of shape {work.source.columns[key].shape}",
                wrong=(
                    f"it was declared {declared}, which its shape does not allow; "
                    + (
                        f"it can be {' or '.join(sorted(known))}"
                        if known
                        else "nothing known fits it"
                    )
                ),
                consequence="nothing was stored",
                remedy="Correct the declaration, or rename or reshape the array",
            )
