"""From source files to a store: discovered, understood, checked, and written whole."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Final, Literal

from rich.markup import escape
from rich.progress import Progress
from threadpoolctl import threadpool_limits

from pipeline.adapters import Source, discover
from pipeline.adapters.fingerprints import Fingerprints, fingerprints
from pipeline.files import usable_place
from pipeline.inference.declarations import Declarations
from pipeline.ingestion.blocks import SPLIT, BlockWriter, Threads
from pipeline.ingestion.derived_esp import ESP_ORIGIN, DerivedTally, origin_of
from pipeline.ingestion.derived_records import charge_record, derived_records
from pipeline.ingestion.plan import Plan, make_plans
from pipeline.ingestion.repeated_ids import RepeatedIds
from pipeline.store.base import Store, StoreLike, read_schema
from pipeline.store.layout import Compression
from pipeline.store.metadata import METADATA_FILE
from pipeline.store.molecules import StoreWriter
from store_schema import VARIABLES, SourceFile, SourceRecord, StoreSchema, Variable
from store_schema.names import ATOM, ATOMIC_MOMENTS, AXES, GRID_POINT, REQUIRED
from store_schema.problems import ConfigError, SourceError
from store_schema.words import counted

OnInvalid = Literal["quarantine", "raise"]

# What training asks for: its absence is worth a warning, whatever a source claims to bring.
_EXPECTED: Final = ("total_charge", "monopoles", "esp")
_ESP_POINTS: Final = 1000
_INSIDE_REMEDY: Final = "points inside atoms can be left out with --drop-inside"


@dataclass(frozen=True)
class IngestReport:
    """What an ingest did.

    Attributes:
        n_molecules: Molecules stored.
        n_quarantined: Molecules set aside.
        warnings: What the user should know, a sentence each.
        schema: Schema of the store, after it.
        reasons: How many molecules were set aside for each reason.
    """

    n_molecules: int
    n_quarantined: int
    warnings: tuple[str, ...]
    schema: StoreSchema
    reasons: Mapping[str, int] = field(default_factory=dict)


def ingest(
    sources: Iterable[str | Path],
    store: StoreLike,
    *,
    declare: Mapping[str, str] | None = None,
    append: bool = False,
    on_invalid: OnInvalid = "quarantine",
    allow_pickle: bool = False,
    workers: int = 1,
    dask: str | None = None,
    progress: bool = False,
    force: bool = False,
    drop_inside: bool = False,
    esp_from: Literal["multipoles"] | None = None,
    esp_points: int | None = None,
    compression: Compression = "lz4",
) -> IngestReport:
    """Reads sources into a store.

    Args:
        sources: Files, folders, globs, and ``a.npz+b.npz`` for columns of the same molecules.
        store: The store to be, or its path or URL.
        declare: What inference shall not decide: meanings by key, ``unit.KEY``,
            ``total_charge``, ``level_of_theory``.
        append: Add to a store that exists. A source that is in it already is left out.
        on_invalid: Set invalid molecules aside, or stop at the first ones.
        allow_pickle: Admit object arrays, which can execute code when read.
        workers: Threads that look at sources, and translate and check blocks; with
            ``dask="local"`` also the processes of the cluster.
        dask: Address of a Dask scheduler whose workers read the same files at the same
            paths, or ``local`` for a cluster of this machine. The store is the same.
        progress: Show a progress bar.
        force: Believe declarations that physics contradicts.
        drop_inside: Leave out grid points that lie inside atoms, instead of setting their
            molecules aside.
        esp_from: Evaluate an ESP from the ``multipoles`` on the atoms, on shells around each
            molecule that has none. It is recorded as derived, with the order of the expansion.
        esp_points: Points of each such ESP; 1,000 by default.
        compression: Codec of a new store.

    Returns:
        What was done; the schema says what every key was taken to mean, and why.

    Raises:
        SourceError: A file cannot be read, or holds no sound molecule; or, with
            ``on_invalid="raise"``, a molecule is invalid.
        AmbiguityError: A key could mean several things; it names what to declare.
        ConfigError: A declaration means nothing, or contradicts shape or physics.
        StoreError: The store exists already, is at work elsewhere, or cannot be where it
            should be; or Dask's workers do not see it, or die again and again.
    """
    store = Store.at(store)
    declarations = Declarations.parse(
        declare,
        force=force,
        drop_inside=drop_inside,
        esp_points=_points_of_derived(esp_from, esp_points),
    )
    found = discover(sources, allow_pickle=allow_pickle, declared=declarations.semantics)
    declarations.check_keys({key for source in found for key in source.columns})
    with (
        store.writing() as folder,
        threadpool_limits(1, user_api="blas"),
        fingerprints(source.files for source in found) as prints,
    ):
        with usable_place(store):
            before = _before(folder, found, prints, append)
        # The same bytes are the same molecules, whatever their file is called now.
        known = {_contents(source.files) for source in before.sources} if before else set()
        old = [s for s in found if known and _contents(prints.of(s.files)) in known]
        repeated = tuple(
            f"{source.place} is in the store already, and stays as it was ingested then"
            for source in old
        )
        new = [source for source in found if source not in old]
        if before is not None and not new:
            return IngestReport(0, 0, repeated, before)
        plans = make_plans(new, declarations, workers)
        ids = RepeatedIds(store, before)
        run = _Run(declarations, on_invalid, workers, plans, prints, dask, ids)
        variables, sizes = run.variables()
        writer = StoreWriter(folder, variables, sizes, append=append, compression=compression)
        schema = run.into(writer, before, progress=progress)
    return run.report(schema, repeated)


def _contents(files: Sequence[SourceFile]) -> tuple[str, ...]:
    return tuple(sorted(file.sha256 for file in files))


def _have(n: int) -> str:
    return counted(n, "molecule", "has have")


def _points_of_derived(esp_from: str | None, esp_points: int | None) -> int:
    """Returns the points of each ESP that is evaluated, 0 where none is."""
    if esp_from is None and esp_points is not None:
        raise ConfigError.of(
            "ingest, esp_points",
            wrong=f"{esp_points} points were asked for, but nothing to evaluate an ESP from",
            consequence="nothing was stored",
            remedy="Add --esp-from multipoles, or leave the points out",
        )
    return (_ESP_POINTS if esp_points is None else esp_points) if esp_from else 0


@dataclass
class _Run:
    """One ingest: what was understood, written, counted and warned of."""

    declarations: Declarations
    on_invalid: OnInvalid
    workers: int
    plans: list[Plan]
    prints: Fingerprints
    dask: str | None
    ids: RepeatedIds
    records: list[SourceRecord] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    reasons: Counter[str] = field(default_factory=Counter)

    @property
    def keeps_split(self) -> bool:
        """Whether every source belongs to a set, as its file names say."""
        return all(plan.split for plan in self.plans)

    def into(
        self, writer: StoreWriter, before: StoreSchema | None, *, progress: bool
    ) -> StoreSchema:
        """Writes the sources and publishes them, behind those that the store had before."""
        with writer:
            with (
                Progress() if progress else nullcontext() as bar,
                self.block_writer(writer) as blocks,
            ):
                n_molecules = writer.n_molecules
                for plan in self.plans:
                    n_molecules = self.write(plan, n_molecules, blocks, bar)
                blocks.finish()
            self.check_stored()
            schema = _schema(writer, (*(before.sources if before else ()), *self.records))
            writer.commit(schema)
        return schema

    def block_writer(self, writer: StoreWriter) -> AbstractContextManager[BlockWriter]:
        """Returns where blocks are checked and written: threads, or a Dask cluster."""
        if self.dask is None:
            return nullcontext(Threads(writer, self.keeps_split, self.workers))
        from pipeline.ingestion.dask_cluster import on_dask

        return on_dask(self.dask, self.workers, writer, self.plans, self.keeps_split)

    def variables(self) -> tuple[list[Variable], dict[str, int]]:
        """Variables that the sources bring, and upper bounds of the dimensions."""
        names = set(REQUIRED)
        kept: dict[str, Variable] = {}
        sizes = {ATOM: 0, GRID_POINT: 0, **AXES}
        for plan in self.plans:
            layout, interpretation = plan.source.layout, plan.interpretation
            names |= interpretation.brings()
            sizes[ATOM] = max(sizes[ATOM], layout.max_atoms)
            widest = max(layout.max_grid, interpretation.esp_points)
            sizes[GRID_POINT] = max(sizes[GRID_POINT], widest)
            for key, variable in interpretation.kept.items():
                kept[variable.name] = variable
                for dim, length in zip(variable.dims[1:], layout.kept[key], strict=True):
                    sizes[dim] = max(sizes.get(dim, 0), length)
        if self.keeps_split:
            kept[SPLIT.name] = SPLIT
        if self.declarations.esp_points:
            kept[ESP_ORIGIN.name] = ESP_ORIGIN
        return [VARIABLES[name] for name in VARIABLES if name in names] + list(kept.values()), sizes

    def write(self, plan: Plan, first: int, block_writer: BlockWriter, bar: Progress | None) -> int:
        """Translates, checks and writes a source, and records it.

        Returns:
            Molecules stored, those before the first one included.
        """
        stored = 0
        present, remarks, reasons = Counter[str](), Counter[str](), Counter[str]()
        derived = DerivedTally()
        task = (
            None
            if bar is None
            else bar.add_task(
                escape(Path(plan.source.place).name), total=plan.source.layout.n_molecules
            )
        )
        for tally in block_writer.store(plan):
            if self.on_invalid == "raise" and tally.invalid:
                raise tally.invalid
            stored += tally.n_sound
            self.ids.add(tally.ids)
            present.update(tally.present)
            remarks.update(tally.remarks)
            reasons.update(tally.reasons)
            if tally.derived is not None:
                derived.add(tally.derived)
            if bar is not None and task is not None:
                bar.advance(task, tally.n_molecules)
        quarantined = reasons.total()
        self.reasons.update(reasons)
        new = derived.origins.total()
        present.subtract({"esp": new, "vdw_surface": new})
        record = self._record(plan, first, stored, quarantined, present)
        present.update({"esp": new, "vdw_surface": new})
        if plan.interpretation.esp_points:
            record = record.model_copy(update={"keys": record.keys | derived_records(derived)})
            self._warn_of_derived(plan, derived)
        self.records.append(record)
        self._warn(plan, stored, quarantined, present)
        self.warnings += [
            f"{plan.source.place}: in {counted(count, 'molecule')}, {what}"
            for what, count in remarks.items()
            if count
        ]
        return first + stored

    def check_stored(self) -> None:
        """Raises a SourceError if no molecule was sound."""
        if any(record.n_molecules for record in self.records):
            return
        first = next(iter(self.reasons), "there are none")
        raise SourceError.of(
            " and ".join(plan.source.place for plan in self.plans),
            wrong=f"none of {sum(self.reasons.values())} molecules is sound, the first as {first}",
            consequence="nothing was stored",
            remedy=_INSIDE_REMEDY
            if "inside the atoms" in first
            else "Mend the file, or correct what was declared",
        )

    def report(self, schema: StoreSchema, repeated: tuple[str, ...]) -> IngestReport:
        """Sums up what was done."""
        if twice := self.ids.count():
            self.warnings.append(f"{_have(twice)} an id that another has")
        return IngestReport(
            n_molecules=sum(record.n_molecules for record in self.records),
            n_quarantined=sum(record.n_quarantined for record in self.records),
            warnings=(*repeated, *self.warnings),
            schema=schema,
            reasons=dict(self.reasons),
        )

    def _record(
        self, plan: Plan, first: int, stored: int, quarantined: int, present: Counter[str]
    ) -> SourceRecord:
        keys = {
            key: record.model_copy(update={"n_present": present[record.stored_as]})
            for key, record in plan.interpretation.records.items()
        }
        if "total_charge" not in plan.interpretation.readings:
            keys |= charge_record(plan.interpretation, present["total_charge"])
        metadata = dict(plan.source.metadata)
        said = metadata.get("level_of_theory", metadata.get("theory", ""))
        source = plan.source
        declarations = self.declarations.with_those_of(metadata, source.place, source.columns)
        return SourceRecord(
            convention=plan.source.convention,
            files=self.prints.of(plan.source.files),
            n_molecules=stored,
            n_quarantined=quarantined,
            first_molecule=first,
            level_of_theory=declarations.level_of_theory or said,
            declared=dict(declarations.text),
            keys=keys,
            metadata=metadata,
        )

    def _warn_of_derived(self, plan: Plan, derived: DerivedTally) -> None:
        place, count = plan.source.place, derived.origins.total()
        if derived.apart:
            self.warnings.append(f"{place}: {derived.apart}")
        if not count and not derived.errors:
            self.warnings.append(f"{place}: no molecule has multipoles to evaluate an ESP from")
        brought = [name in plan.interpretation.readings for name in ATOMIC_MOMENTS]
        for order, name in enumerate(ATOMIC_MOMENTS[1:]):
            # Of charges alone it teaches a model no more than those; else, if others are higher.
            if not any(brought[order + 1 :]) and order:
                break
            if lower := derived.origins[origin_of(order)]:
                self.warnings.append(
                    f"{place}: {_have(lower)} an ESP of {origin_of(order)} only, for lack of "
                    f"{name} of every atom"
                )

    def _warn(self, plan: Plan, stored: int, quarantined: int, present: Counter[str]) -> None:
        place = plan.source.place
        if plan.split and not self.keeps_split:
            self.warnings.append(f"{place}: its split is not kept, as other sources have none")
        self.warnings += [f"{place}: {warning}" for warning in plan.interpretation.warnings]
        if quarantined:
            self.warnings.append(f"{place}: {_have(quarantined)} been set aside, in quarantine")
        if any("inside the atoms" in reason for reason in self.reasons):
            self.warnings.append(f"{place}: {_INSIDE_REMEDY}")
        for name in dict.fromkeys((*plan.interpretation.readings, *_EXPECTED)):
            missing = stored + quarantined - present[name]
            if name in VARIABLES and VARIABLES[name].dtype.startswith("float") and missing:
                self.warnings.append(f"{place}: {_have(missing)} no {name}")


def _schema(writer: StoreWriter, records: tuple[SourceRecord, ...]) -> StoreSchema:
    return StoreSchema(
        n_molecules=writer.n_molecules,
        max_atoms=writer.lengths.get(ATOM, 0),
        max_grid=writer.lengths.get(GRID_POINT, 0),
        n_quarantined=writer.n_quarantined,
        variables=tuple(variable.name for variable in writer.variables),
        units={variable.name: variable.unit for variable in writer.variables if variable.unit},
        sources=records,
        created_by=f"dcm-store {version('dcm-store')}",
    )


def _before(
    folder: Path, found: Sequence[Source], prints: Fingerprints, append: bool
) -> StoreSchema | None:
    """Returns what the store holds, where it is appended to or holds exactly these sources."""
    if append:
        return read_schema(folder)
    if not (folder / METADATA_FILE).is_file():
        return None
    schema = read_schema(folder)
    same = [source.files for source in schema.sources] == [prints.of(s.files) for s in found]
    return schema if same else None
