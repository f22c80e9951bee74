"""Tables of an analysis for the terminal, within 80 columns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from dcmnet.analysis.analyze import Analysis

_ROWS = (
    ("esp_rmse", "ESP RMSE", "kcal/mol/e"),
    ("esp_rmse_monopoles", "  of monopoles", "kcal/mol/e"),
    ("esp_mae", "ESP MAE", "kcal/mol/e"),
    ("monopole_mae", "monopole MAE", "e"),
    ("dipole_error", "dipole error", "D"),
)

Errors = Mapping[str, Mapping[str, float]]


def _table(*columns: str) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("", no_wrap=True)
    for column in columns:
        table.add_column(column, justify="right", no_wrap=True, min_width=len(column))
    return table


def error_table(errors: Errors) -> Table:
    """Returns the distribution of each error over molecules."""
    table = _table("unit", "molecules", "mean", "median", "95 %", "max")
    for name, label, unit in _ROWS:
        numbers = errors.get(name, {})
        if numbers.get("count"):
            values = (f"{numbers[key]:.3f}" for key in ("mean", "median", "p95", "max"))
            table.add_row(label, unit, f"{numbers['count']:,}", *values)
    return table


def charge_table(by_charge: Mapping[str, Errors]) -> Table:
    """Returns the mean ESP RMSE by total charge, beside that of the reference monopoles."""
    table = _table("molecules", "this model", "monopoles")
    for charge, errors in by_charge.items():
        ours, theirs = (errors[name] for name in ("esp_rmse", "esp_rmse_monopoles"))
        means = (f"{e['mean']:.3f}" if e["count"] else "" for e in (ours, theirs))
        table.add_row(f"total charge {charge}", f"{ours['count']:,}", *means)
    return table


def print_analysis(analysis: Analysis, console: Console) -> None:
    """Prints the tables of an analysis, its worst molecules and its files."""
    summary: dict[str, Any] = analysis.summary
    console.print(
        f"[bold]{escape(analysis.results)}[/] in {escape(analysis.store)}", highlight=False
    )
    console.print(error_table(summary["all"]))
    if len(summary["by_charge"]) > 1:
        console.print("[bold]Mean ESP RMSE[/], kcal/mol/e", highlight=False)
        console.print(charge_table(summary["by_charge"]))
    worst = (f"{entry['molecule_id']} ({entry['esp_rmse']:.2f})" for entry in summary["worst"])
    console.print(f"Worst molecules: {escape(', '.join(worst))}", highlight=False)
    console.print("\n[bold]Files[/]")
    for path in analysis.files:
        console.print(escape(f"  {path}"), highlight=False, soft_wrap=True)
