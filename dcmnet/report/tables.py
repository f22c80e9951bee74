"""The tables of the page: rows of text, ready to be shown."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from dcmnet.analysis.figures.esp import RMSE_COLUMNS, shown_levels
from dcmnet.analysis.figures.groups import in_order
from dcmnet.analysis.figures.style import LEVEL_LABELS
from dcmnet.analysis.grouping import charge_label
from dcmnet.analysis.statistics import (
    ERROR_LABELS,
    LEVELS,
    Distribution,
    Statistics,
    unit_symbol,
)
from dcmnet.report.content import ResultsContent, StoreContent
from store_schema.provenance import SourceRecord

_MAX_FILES = 200


@dataclass(frozen=True)
class Table:
    """A table of the page.

    Attributes:
        caption: What it shows.
        header: Names of the columns.
        rows: Cells; the first of a row names it.
        text_columns: Columns after the first that hold text rather than numbers.
    """

    caption: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    text_columns: frozenset[int] = frozenset()


def sources_table(store: StoreContent) -> Table:
    """Returns what each source of the store is; what none of them has is left out."""
    sources = store.inspection.store_schema.sources
    columns: dict[str, list[str]] = {
        "file": [_file_names(source) for source in sources],
        "convention": [source.convention.replace("_", " ") for source in sources],
        "level of theory": [source.level_of_theory for source in sources],
        "declared": [
            ", ".join(f"{key}={value}" for key, value in source.declared.items())
            for source in sources
        ],
        "set aside": [f"{source.n_quarantined:,}" for source in sources],
        "molecules": [f"{source.n_molecules:,}" for source in sources],
    }
    shown = {name: cells for name, cells in columns.items() if set(cells) - {"", "0"}}
    texts = [name not in ("set aside", "molecules") for name in shown]
    return Table(
        caption="Sources of the store",
        header=tuple(shown),
        rows=tuple(zip(*shown.values(), strict=True)),
        text_columns=frozenset(np.flatnonzero(texts).tolist()),
    )


def _file_names(source: SourceRecord) -> str:
    names = [file.name for file in source.files]
    if len(names) <= 3:
        return " + ".join(names)
    return f"{names[0]} … {names[-1]} ({len(names):,} files)"


def files_table(store: StoreContent) -> Table:
    """Returns every source file with its checksum."""
    files = [file for source in store.inspection.store_schema.sources for file in source.files]
    left_out = f"; the first {_MAX_FILES} of {len(files):,}" if len(files) > _MAX_FILES else ""
    return Table(
        caption=f"Source files{left_out}",
        header=("file", "bytes", "SHA-256"),
        rows=tuple((file.name, f"{file.size:,}", file.sha256) for file in files[:_MAX_FILES]),
        text_columns=frozenset({2}),
    )


def errors_table(statistics: Statistics) -> Table:
    """Returns how each error is distributed over molecules."""
    columns = statistics.molecules["all"].get("all", {})
    rows = [
        (f"{label} ({unit_symbol(name)})", *_distribution(columns[name]))
        for name, label in ERROR_LABELS.items()
        if name in columns and columns[name].count
    ]
    return Table(
        caption="Errors over molecules; each molecule counts once, whatever its size",
        header=("", "molecules", "mean", "median", "95 %", "max"),
        rows=tuple(rows),
    )


def points_table(statistics: Statistics) -> Table:
    """Returns the errors of each level over all grid points."""
    levels = statistics.points["all"].get("all", {})
    rows = []
    for level in LEVELS:
        if level not in levels:
            continue
        e = levels[level]
        rows.append(
            (
                LEVEL_LABELS[level],
                f"{e.count:,}",
                *(f"{value:.3f}" for value in (e.rmse, e.mae, e.p95, e.max)),
                f"{e.mean:+.3f}",
                "" if e.correlation is None else f"{e.correlation:.5f}",
            )
        )
    return Table(
        caption="ESP errors over all grid points (kcal/mol/e), and Pearson's correlation",
        header=("", "points", "RMSE", "MAE", "95 %", "max", "bias", "r"),
        rows=tuple(rows),
    )


def levels_table(table: pd.DataFrame) -> Table:
    """Returns the ESP RMSE of each level over the molecules that have all of them."""
    shown = shown_levels(table)
    common = table.dropna(subset=[RMSE_COLUMNS[level] for level in shown])
    rows = []
    for level in shown:
        errors = common[RMSE_COLUMNS[level]]
        numbers = (errors.mean(), errors.median(), errors.quantile(0.95), errors.max())
        better = f"{(common['esp_rmse'] < errors).mean():.0%}" if level != "model" else ""
        rows.append((LEVEL_LABELS[level], *(f"{value:.3f}" for value in numbers), better))
    return Table(
        caption=f"ESP RMSE per molecule (kcal/mol/e), over the {len(common):,} molecules "
        "that have every level",
        header=("", "mean", "median", "95 %", "max", "model better for"),
        rows=tuple(rows),
    )


def charges_table(statistics: Statistics) -> Table:
    """Returns the mean ESP RMSE of molecules by total charge."""
    groups = statistics.molecules.get("total_charge", {})
    rows = []
    for name in in_order(groups):
        found = [groups[name].get(column) for column in RMSE_COLUMNS.values()]
        means = ["" if one is None or one.mean is None else f"{one.mean:.2f}" for one in found]
        count = groups[name]["esp_rmse"].count
        rows.append((name.replace("-", "−"), f"{count:,}", *means))
    return Table(
        caption="Mean ESP RMSE per molecule by total charge (kcal/mol/e): of the model, of the "
        "stored monopoles and of charges fitted to each ESP",
        header=("total charge", "molecules", "model", "stored", "fitted"),
        rows=tuple(rows),
    )


def worst_table(statistics: Statistics) -> Table:
    """Returns the molecules with the largest errors, by name."""
    several = len({entry.split for entry in statistics.worst}) > 1
    rows = [
        (
            entry.molecule_id,
            entry.formula,
            *([entry.split] if several else []),
            "unknown" if entry.total_charge is None else charge_label(entry.total_charge),
            f"{entry.esp_rmse:.2f}",
            *(
                "" if value is None else f"{value:.2f}"
                for value in (entry.esp_rmse_monopoles, entry.esp_rmse_fitted)
            ),
        )
        for entry in statistics.worst
    ]
    return Table(
        caption="Molecules with the largest ESP RMSE (kcal/mol/e): of the model, of the stored "
        "monopoles and of charges fitted to each ESP",
        header=(
            *("molecule", "formula"),
            *(["split"] if several else []),
            *("charge", "model", "stored", "fitted"),
        ),
        rows=tuple(rows),
        text_columns=frozenset({1, 2} if several else {1}),
    )


def versions_table(results: ResultsContent | None, installed: dict[str, str]) -> Table:
    """Returns the versions that analysed, and those installed now."""
    analysed = results.schema.versions if results else {}
    names = sorted({*installed, *analysed})
    return Table(
        caption="Versions of packages",
        header=("package", "when analysed", "when this page was made"),
        rows=tuple((name, analysed.get(name, ""), installed.get(name, "")) for name in names),
    )


def _distribution(found: Distribution) -> tuple[str, ...]:
    numbers = (found.mean, found.median, found.p95, found.max)
    return (f"{found.count:,}", *("" if value is None else f"{value:.3f}" for value in numbers))
