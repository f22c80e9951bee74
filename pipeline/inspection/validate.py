"""Checks a store again: its schema against its arrays, and every molecule's values."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import Final

import numpy as np
import xarray as xr
from pydantic import BaseModel, ConfigDict

from pipeline.chemistry.arrays import Atoms, Grid
from pipeline.inference.second_look import doubts
from pipeline.inference.words import Words
from pipeline.ingestion.canonical import CanonicalBlock, charges_that_explain
from pipeline.ingestion.checks import faults
from pipeline.ingestion.plan import spread
from pipeline.store.base import UNREADABLE, Store, StoreLike
from store_schema import SEMANTICS, VARIABLES, Problem, SourceRecord, StoreSchema
from store_schema.names import ATOM, GRID_POINT, MOLECULE, QUARANTINE_GROUP, REQUIRED
from store_schema.words import counted

# Molecules, atoms and points looked at once; bounds memory whatever the size of the store.
_BLOCK_MOLECULES, _BLOCK_ROWS = 1024, 2**20
# Molecules of a source whose values are held against each other.
_SECOND_LOOK: Final = 256
# Molecules that a problem names.
_NAMED: Final = 3


class StoreValidation(BaseModel):
    """What a check of a store found.

    Attributes:
        store: Its path.
        n_molecules: Molecules that were looked at.
        n_faulty: Molecules that fail a check.
        problems: Everything that is wrong; empty for a sound store.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    store: str
    n_molecules: int
    n_faulty: int
    problems: tuple[Problem, ...]


def validate_store(store: StoreLike) -> StoreValidation:
    """Reads a store whole, block by block, and lists every problem.

    Raises:
        StoreError: There is no store, or its schema is not valid.
    """
    store = Store.at(store)
    schema, tree = store.schema(), store.tree()
    molecules = tree.to_dataset()
    problems = [*_against_schema(str(store), schema, tree)]
    unreadable = {problem.place.rpartition(", ")[2] for problem in problems}
    if unreadable & {*REQUIRED, MOLECULE, ATOM, GRID_POINT}:
        return StoreValidation(
            store=str(store), n_molecules=0, n_faulty=0, problems=tuple(problems)
        )
    if not molecules.sizes.get(MOLECULE, 0):
        problems.append(_problem(str(store), MOLECULE, "it has none"))
    present: Counter[str] = Counter()
    found, n_faulty = _faulty_molecules(str(store), schema, molecules, present)
    if QUARANTINE_GROUP in tree.children:
        try:
            _count_present(tree[QUARANTINE_GROUP].to_dataset(), present)
        except UNREADABLE as error:
            problems.append(_problem(str(store), QUARANTINE_GROUP, f"it cannot be read: {error}"))
    problems += _lost(str(store), schema, present)
    if not problems and not found:  # what is damaged says nothing of units
        problems += [*_misread(str(store), schema), *_doubted(str(store), schema, molecules)]
    return StoreValidation(
        store=str(store),
        n_molecules=molecules.sizes.get(MOLECULE, 0),
        n_faulty=n_faulty,
        problems=(*problems, *found),
    )


def _against_schema(store: str, schema: StoreSchema, tree: xr.DataTree) -> Iterator[Problem]:
    """Problems of names, lengths, types and units."""
    molecules = tree.to_dataset()
    there = {str(name) for name in (*molecules.data_vars, *molecules.coords)}
    for name in sorted({*schema.variables, *REQUIRED} - there):
        yield _problem(store, name, "the schema names this array, which is missing")
    for name in sorted(there - {*schema.variables}):
        yield _problem(store, name, "the schema does not name this array")
    lengths = {
        MOLECULE: schema.n_molecules,
        ATOM: schema.max_atoms,
        GRID_POINT: schema.max_grid,
    }
    for dim, length in lengths.items():
        if molecules.sizes.get(dim, length) != length:
            yield _problem(store, dim, f"its length is {molecules.sizes[dim]}, not {length}")
    for name in sorted(there & VARIABLES.keys()):
        variable, array = VARIABLES[name], molecules[name]
        dtype = np.dtype(object) if variable.dtype == "str" else np.dtype(variable.dtype)
        if array.dims != variable.dims:
            yield _problem(store, name, f"its dimensions are {array.dims}, not {variable.dims}")
        text = variable.dtype == "str" and array.dtype.kind in "TUO"
        if array.dtype != dtype and not text:
            yield _problem(store, name, f"its type is {array.dtype}, not {dtype}")
        unit = str(array.attrs.get("units", ""))
        if unit != variable.unit or schema.units.get(name, "") != variable.unit:
            own, of_schema = unit or "none", schema.units.get(name, "none")
            wrong = f"its unit is {own}, in the schema {of_schema}, not {variable.unit or 'none'}"
            yield _problem(store, name, wrong)
    set_aside = tree.children.get(QUARANTINE_GROUP)
    n = 0 if set_aside is None else len(set_aside.to_dataset()["reason"])
    if n != schema.n_quarantined:
        yield _problem(store, QUARANTINE_GROUP, f"it has {n} molecules, not {schema.n_quarantined}")


def _lost(store: str, schema: StoreSchema, present: Counter[str]) -> Iterator[Problem]:
    """Problems of values that were there when sources were ingested; a lost file reads as NaN."""
    expected: Counter[str] = Counter()
    for source in schema.sources:
        for record in source.keys.values():
            if record.stored_as in VARIABLES:
                expected[record.stored_as] += record.n_present
    for name, count in sorted(expected.items()):
        if VARIABLES[name].dtype.startswith("float") and present[name] != count:
            wrong = f"{present[name]} molecules have it, of {count} that were ingested with it"
            yield _problem(store, name, wrong)


def _misread(store: str, schema: StoreSchema) -> Iterator[Problem]:
    """Problems of units that a source itself said to be others."""
    for source in schema.sources:
        words = Words(source.metadata)
        for key, record in source.keys.items():
            if record.semantics not in SEMANTICS or not record.stored_as:
                continue
            word = words.of(key, record.semantics)
            by_user = record.unit_from in ("declared", "forced")
            if word is None or word.is_derived:
                continue
            if record.unit and word.unit != record.unit and not by_user:
                yield Problem(
                    place=f"{store}, {record.stored_as} ({key}, read in {record.unit})",
                    wrong=f"its values were read in {record.unit}, but the file says "
                    f"{word.unit}: {word.said}",
                    consequence="what reads this store takes them for something else",
                    remedy=f"Ingest the source again, with --declare unit.{key}=UNIT if need be",
                )


def _doubted(store: str, schema: StoreSchema, molecules: xr.Dataset) -> Iterator[Problem]:
    """Problems of units and signs: variables that contradict each other, in some molecules."""
    for source in schema.sources:
        rows = source.first_molecule + spread(source.n_molecules, _SECOND_LOOK)
        block = molecules.isel({MOLECULE: rows}).load()
        values = {str(name): block[name].values for name in block.variables}
        parts = _as_block(values)
        believed = _declared(source)
        for doubt in doubts(parts.atoms, parts.grid, values):
            if doubt.variable in believed:
                continue
            keys = {k: r for k, r in source.keys.items() if r.stored_as == doubt.variable}
            key, record = next(iter(keys.items()), (doubt.variable, None))
            read = f", read in {record.unit}" if record is not None and record.unit else ""
            files = " + ".join(file.name for file in source.files[:2])
            yield Problem(
                place=f"{store}, {doubt.variable} of {files or 'a source'} ({key}{read})",
                wrong=(
                    f"its values disagree with the others: {doubt.evidence}; they agree if "
                    f"multiplied by {doubt.factor:.3g}"
                ),
                consequence="the unit or the sign that it was read in is wrong",
                remedy=f"Ingest the source again with --declare unit.{key}=UNIT, its true unit",
            )


def _count_present(block: xr.Dataset, present: Counter[str]) -> None:
    for name in block.variables:
        values = block[name].values
        if values.dtype.kind == "f":
            there = np.isfinite(values.reshape(len(values), -1)).any(axis=1)
            present[str(name)] += int(there.sum())


def _faulty_molecules(
    store: str, schema: StoreSchema, molecules: xr.Dataset, present: Counter[str]
) -> tuple[list[Problem], int]:
    """Problems of values, with the molecules that have them; counts what is present."""
    names: dict[str, list[str]] = {}
    counts: Counter[str] = Counter()
    n_faulty = 0
    n = molecules.sizes.get(MOLECULE, 0)
    wide = molecules.sizes.get(GRID_POINT, 0) + 8 * molecules.sizes.get(ATOM, 0)
    step = max(1, min(_BLOCK_MOLECULES, _BLOCK_ROWS // max(wide, 1)))
    for rows, declared in _blocks(schema, n, step):
        block = molecules.isel({MOLECULE: rows})
        try:
            block = block.load()
            values = {str(name): block[name].values for name in block.variables}
        except UNREADABLE as error:
            n_faulty += block.sizes[MOLECULE]
            place = f"molecules {rows.start} to {rows.stop - 1}"
            return [_problem(store, place, f"they cannot be read: {error}")], n_faulty
        _count_present(block, present)
        for row, reasons in enumerate(_reasons(values, declared)):
            n_faulty += bool(reasons)
            for kind in reasons:
                counts[kind] += 1
                names.setdefault(kind, []).append(str(values["molecule_id"][row]))
                del names[kind][_NAMED:]
    return [
        _problem(
            store,
            f"{counted(count, 'molecule')} such as {', '.join(names[kind])}",
            f"they do not pass the checks of ingest: {kind}",
        )
        for kind, count in counts.most_common()
    ], n_faulty


def _blocks(schema: StoreSchema, n: int, step: int) -> Iterator[tuple[slice, frozenset[str]]]:
    """Rows to look at together, of one source each, with the variables whose unit was declared."""
    start = 0
    for source in schema.sources:
        end = min(source.first_molecule + source.n_molecules, n)
        for first in range(start, end, step):
            yield slice(first, min(first + step, end)), _declared(source)
        start = max(start, end)
    for first in range(start, n, step):  # of which the schema does not know
        yield slice(first, min(first + step, n)), frozenset()


def _declared(source: SourceRecord) -> frozenset[str]:
    """Variables whose unit the user declared, who was believed or refused then."""
    records = source.keys.values()
    return frozenset(r.stored_as for r in records if r.unit_from in ("declared", "forced"))


def _reasons(values: dict[str, np.ndarray], declared: frozenset[str]) -> list[list[str]]:
    """Reasons against each molecule of a block, padding that is not empty included."""
    block = replace(_as_block(values), declared=declared)
    reasons = [[text] if text else [] for text in faults(block)]
    beyond = {ATOM: ~block.atoms.mask, GRID_POINT: ~block.grid.mask}
    for name in values.keys() & VARIABLES.keys():
        dims = VARIABLES[name].dims
        if len(dims) < 2 or dims[1] not in beyond or not VARIABLES[name].dtype.startswith("float"):
            continue
        padding = beyond[dims[1]].reshape(*beyond[dims[1]].shape, *[1] * (len(dims) - 2))
        stray = (padding & ~np.isnan(values[name])).reshape(len(values[name]), -1).any(axis=1)
        for row in np.flatnonzero(stray):
            reasons[row].append(f"its {name} has values beyond its end")
    real = (values["atomic_numbers"] > 0).sum(axis=1)
    for row in np.flatnonzero(real != values["n_atoms"]):
        reasons[row].append("its number of atoms is not that of its atomic numbers")
    return reasons


def _as_block(values: dict[str, np.ndarray]) -> CanonicalBlock:
    """Molecules as ingest had them when it checked them."""
    n_atoms, n_grid = values["n_atoms"], values["n_grid"].astype(np.int64)
    n = len(n_atoms)
    numbers = values["atomic_numbers"].astype(np.int64)
    mask = np.arange(numbers.shape[1]) < n_atoms[:, None]
    atoms = Atoms(numbers, values["positions"].astype(np.float64), mask, None)
    width = values["esp"].shape[1] if "esp" in values else 0
    width = values["vdw_surface"].shape[1] if "vdw_surface" in values else width
    points = values.get("vdw_surface", np.full((n, width, 3), np.nan, np.float32))
    esp = values.get("esp", np.full((n, width), np.nan, np.float32))
    grid = Grid(points, esp, n_grid, n_grid, n_grid, width, values.get("electric_field"))
    fit = charges_that_explain(atoms, grid)
    return CanonicalBlock(values, atoms, grid, fit, n_atoms.astype(np.float64))


def _problem(store: str, place: str, wrong: str) -> Problem:
    return Problem(
        place=f"{store}, {place}",
        wrong=wrong,
        consequence="what reads this store cannot rely on it",
        remedy="Ingest the sources again",
    )
