"""Tables of an analysis for the terminal."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table

from dcmnet.analysis.analyze import Analysis

_ROWS = (
    ("esp_rmse", "ESP RMSE, distributed charges", "kcal/mol/e"),
    ("esp_rmse_monopoles", "ESP RMSE, reference monopoles", "kcal/mol/e"),
    ("esp_mae", "ESP MAE, distributed charges", "kcal/mol/e"),
    ("monopole_mae", "monopole MAE", "e"),
    ("dipole_error", "dipole error", "D"),
)


def error_table(title: str, errors: dict[str, dict[str, float]]) -> Table:
    """Returns the table of an analysis: distribution of each error over molecules."""
    table = Table(title=title, title_justify="left")
    table.add_column("")
    table.add_column("unit", style="dim")
    for name in ("molecules", "mean", "median", "95 %", "max"):
        table.add_column(name, justify="right")
    for name, label, unit in _ROWS:
        numbers = errors.get(name, {})
        if not numbers.get("count"):
            continue
        values = (f"{numbers[key]:.3f}" for key in ("mean", "median", "p95", "max"))
        table.add_row(label, unit, f"{numbers['count']:,}", *values)
    return table


def print_analysis(analysis: Analysis, console: Console) -> None:
    """Prints the tables of an analysis, its worst molecules and its files."""
    summary: dict[str, Any] = analysis.summary
    console.print(error_table(f"{analysis.results} in {analysis.store}", summary["all"]))
    if len(summary["by_charge"]) > 1:
        for charge, errors in summary["by_charge"].items():
            console.print(error_table(f"total charge {charge}", errors))
    worst = ", ".join(
        f"{entry['molecule_id']} ({entry['esp_rmse']:.2f})" for entry in summary["worst"]
    )
    console.print(f"worst molecules: {worst}", highlight=False)
    for path in analysis.files:
        console.print(f"  {path}", highlight=False)
