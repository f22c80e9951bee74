"""Pages for the terminal: what an ingest did, and what a store holds."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from pipeline.ingestion.run import IngestReport
from pipeline.inspection.inspect import Histogram, StoreInspection
from pipeline.inspection.validate import StoreValidation
from store_schema import SourceRecord
from store_schema.provenance import KeyRecord
from store_schema.words import counted

_BAR_WIDTH = 32
_LABELS = {"n_atoms": "atoms per molecule", "n_grid": "grid points per molecule"}


def print_report(report: IngestReport, store: str | Path, console: Console) -> None:
    """Prints what an ingest stored, how it read every key, and what it set aside."""
    for source in report.schema.sources:
        _print_source(source, console, evidence=False)
    console.print(
        f"[green]{counted(report.n_molecules, 'molecule')} added[/], "
        f"{report.n_quarantined:,} set aside; "
        f"{escape(str(store))} holds {report.schema.n_molecules:,}",
        highlight=False,
    )
    for reason, count in report.reasons.items():
        console.print(f"  {count:,} × {escape(reason)}", highlight=False)
    for warning in report.warnings:
        console.print(f"[yellow]Warning:[/] {escape(warning)}", highlight=False, soft_wrap=True)


def print_inspection(inspection: StoreInspection, console: Console) -> None:
    """Prints what a store holds, and the evidence for every reading."""
    schema = inspection.store_schema
    size = inspection.bytes_on_disk
    console.print(
        f"[bold]{escape(inspection.store)}[/] · {counted(schema.n_molecules, 'molecule')}"
        + (f" · {size / 1e6:,.1f} MB" if size is not None else "")
        + f" · schema version {schema.version}",
        highlight=False,
    )
    console.print(_sizes(inspection))
    for name, histogram in inspection.histograms.items():
        console.print(_histogram(_LABELS[name], histogram))
    console.print(_bars("elements", inspection.elements))
    console.print(_bars("total charge", inspection.total_charges))
    console.print(_presence(inspection))
    if inspection.splits:
        counts = " · ".join(f"{name} {count:,}" for name, count in inspection.splits.items())
        console.print(f"[bold]Default splits[/] {counts}", highlight=False)
    console.print(f"[bold]Results[/] {escape(', '.join(inspection.results)) or 'none yet'}\n")
    for source in schema.sources:
        _print_source(source, console, evidence=True)
    if inspection.quarantine:
        console.print(_bars("quarantined", inspection.quarantine))


def print_validation(validation: StoreValidation, console: Console) -> None:
    """Prints whether a store is sound, and every problem it has."""
    console.print(
        f"[bold]{escape(validation.store)}[/] · {counted(validation.n_molecules, 'molecule')} read",
        highlight=False,
    )
    for problem in validation.problems:
        console.print(f"[red]✗[/] {escape(str(problem))}", highlight=False)
    if validation.problems:
        console.print(
            f"[red]{counted(len(validation.problems), 'problem')}[/], "
            f"{counted(validation.n_faulty, 'molecule', 'is are')} not sound",
            highlight=False,
        )
    else:
        console.print("[green]✓[/] schema, arrays and values agree; every molecule is sound")


def _histogram(title: str, histogram: Histogram) -> Table:
    labels = [
        f"{low:,}" if low == high else f"{low:,} to {high:,}"
        for low, high in zip(histogram.lowest, histogram.highest, strict=True)
    ]
    return _bars(title, dict(zip(labels, histogram.counts, strict=True)))


def _sizes(inspection: StoreInspection) -> Table:
    table = _table("", "min", "median", "mean", "max")
    for name, d in inspection.sizes.items():
        numbers = (d.minimum, d.median, d.mean, d.maximum)
        table.add_row(_LABELS[name], *(f"{value:,.6g}" for value in numbers))
    return table


def _bars(title: str, counts: Mapping[str, int]) -> Table:
    table = _table(title, "count", "")
    most = max(counts.values(), default=1)
    for name, count in counts.items():
        bar = "█" * max(bool(count), round(_BAR_WIDTH * count / max(most, 1)))
        table.add_row(escape(name), f"{count:,}", f"[blue]{bar}[/]")
    table.columns[2].justify = "left"
    return table


def _presence(inspection: StoreInspection) -> Table:
    table = _table("variable", "unit", "present", "missing")
    units = inspection.store_schema.units
    total = inspection.store_schema.n_molecules
    for name, count in inspection.present.items():
        missing = f"[yellow]{total - count:,}[/]" if count < total else "0"
        table.add_row(escape(name), units.get(name, ""), f"{count:,}", missing)
    return table


def _print_source(source: SourceRecord, console: Console, *, evidence: bool) -> None:
    names = [file.name for file in source.files]
    shown = " + ".join(names[:2]) + (f" and {len(names) - 2} more" if len(names) > 2 else "")
    console.print(
        f"[bold]{escape(shown)}[/] · {source.convention} · "
        + counted(source.n_molecules, "molecule")
        + (f" · {source.n_quarantined:,} quarantined" if source.n_quarantined else ""),
        highlight=False,
    )
    table = _table("key", "taken as", "unit", "settled by", "sure")
    for column in table.columns[1:4]:
        column.justify = "left"
    for key, record in source.keys.items():
        table.add_row(escape(key), *_reading(record))
    console.print(table)
    if evidence:
        for key, record in source.keys.items():
            for sentence in record.evidence:
                console.print(escape(f"  {key}: {sentence}"), style="dim", highlight=False)
        console.print()


def _reading(record: KeyRecord) -> tuple[str, str, str, str]:
    if not record.stored_as and record.semantics != "esp_mask":
        return record.semantics, record.unit, "not stored", ""
    origins = dict.fromkeys((record.semantics_from, record.unit_from))
    settled = " + ".join(origin for origin in origins if origin != "default")
    return record.semantics, record.unit, settled, f"{record.confidence:.0%}"


def _table(first: str, *others: str) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column(first, overflow="fold")  # a name is read whole, also in 80 columns
    for name in others:
        table.add_column(name, justify="right", overflow="fold")
    return table
