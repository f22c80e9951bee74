"""Tables of an analysis for the terminal, within 80 columns."""

from __future__ import annotations

from collections.abc import Mapping

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from dcmnet.analysis.comparison import Comparison
from dcmnet.analysis.run import Analysis
from dcmnet.analysis.statistics import ERROR_LABELS, Distribution, Errors, Level, unit_symbol

# Below the ESP RMSE stand those of the reference levels.
_ROWS = {
    "esp_rmse": ERROR_LABELS["esp_rmse"],
    "esp_uncertainty": "  as expected",
    "esp_rmse_averaged": "  mean of ensemble",
    "esp_rmse_fitted": "  fitted charges",
    "esp_rmse_fitted_dipoles": "    and dipoles",
    "esp_rmse_fitted_quadrupoles": "    to quadrupoles",
    "esp_rmse_monopoles": "  monopoles",
    "esp_rmse_stored_multipoles": "    all multipoles",
    **ERROR_LABELS,
}

Columns = Mapping[str, Distribution]


def _table(*columns: str) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("", no_wrap=True)
    for column in columns:
        table.add_column(column, justify="right", no_wrap=True, min_width=len(column))
    return table


def error_table(columns: Columns) -> Table:
    """Returns the distribution of each error over molecules."""
    table = _table("unit", "molecules", "mean", "median", "95 %", "max")
    for name, label in _ROWS.items():
        found = columns.get(name)
        if found and found.count:
            numbers = (found.mean, found.median, found.p95, found.max)
            table.add_row(label, unit_symbol(name), f"{found.count:,}", *map(_number, numbers))
    return table


def group_table(groups: Mapping[str, Columns], prefix: str) -> Table:
    """Returns the mean ESP RMSE by group, and that of the reference levels."""
    table = _table("molecules", "this model", "fitted", "monopoles")
    for label, columns in groups.items():
        levels = ("esp_rmse", "esp_rmse_fitted", "esp_rmse_monopoles")
        means = (_number(columns[name].mean) for name in levels)
        table.add_row(escape(f"{prefix} {label}"), f"{columns['esp_rmse'].count:,}", *means)
    return table


def shell_table(shells: Mapping[str, Mapping[Level, Errors]]) -> Table:
    """Returns the RMSE over the points of each distance shell, by level."""
    table = _table("points", "this model", "fitted", "monopoles")
    for label, levels in shells.items():
        rmse = (
            _number(levels[level].rmse if level in levels else None)
            for level in ("model", "fitted", "monopoles")
        )
        table.add_row(f"{label} radii away", f"{levels['model'].count:,}", *rmse)
    return table


def print_analysis(analysis: Analysis, console: Console) -> None:
    """Prints the tables of an analysis, its worst molecules and its files."""
    statistics = analysis.statistics
    console.print(
        f"[bold]{escape(analysis.results)}[/] in {escape(analysis.store)}", highlight=False
    )
    console.print(error_table(statistics.molecules["all"]["all"]))
    if statistics.ensemble and statistics.ensemble.calibration:
        console.print(
            f"[bold]Expected errors[/] above are {statistics.ensemble.factor:.2f} times the spread "
            f"of {statistics.ensemble.n_members} networks. "
            f"{statistics.ensemble.calibration.in_words}\n",
            highlight=False,
        )
    charges = statistics.molecules["total_charge"]
    if len(charges) > 1:
        console.print("[bold]Mean ESP RMSE[/], kcal/mol/e", highlight=False)
        console.print(group_table(charges, "total charge"))
    if statistics.points["shell"]:
        console.print(
            "[bold]ESP RMSE by distance[/] in van der Waals radii, kcal/mol/e", highlight=False
        )
        console.print(shell_table(statistics.points["shell"]))
    worst = ", ".join(f"{one.molecule_id} ({one.esp_rmse:.2f})" for one in statistics.worst[:5])
    console.print(
        f"Worst molecules: {escape(worst)}" if worst else "No molecule has a reference ESP.",
        highlight=False,
    )
    if analysis.files:
        console.print("\n[bold]Files[/]")
    for path in analysis.files:
        console.print(escape(f"  {path}"), highlight=False, soft_wrap=True)


def print_comparison(comparison: Comparison, console: Console) -> None:
    """Prints contenders side by side, and how sure the differences to the first are."""
    first = str(comparison.summary.index[0])
    counted = f"{len(comparison.molecules):,} molecules of {comparison.store}"
    left_out = f", {comparison.left_out:,} not analysed by all" if comparison.left_out else ""
    console.print(escape(counted + left_out), highlight=False, soft_wrap=True)
    table = _table("epoch", "mean", "median", "largest", "dipole", "monopoles")
    columns = [f"{name}_mean" for name in ("esp_max", "dipole_error", "monopole_mae")]
    columns = ["esp_rmse_mean", "esp_rmse_median", *columns]
    for label, row in comparison.summary.iterrows():
        table.add_row(
            escape(str(label)),
            f"{row['epoch']:.0f}",
            *(_number(row.get(column)) for column in columns),
        )
    console.print("[bold]ESP RMSE[/] and largest error, kcal/mol/e; dipole, D; monopoles, e")
    console.print(table)
    for label in comparison.summary.index[1:]:
        console.print(f"[bold]{escape(str(label))}[/] less {escape(first)}", highlight=False)
        differences = _table("molecules", "change", "95 % interval", "better")
        for error, row in comparison.differences.loc[label].iterrows():
            low, change, high = (_number(row[name], "+") for name in ("low", "difference", "high"))
            differences.add_row(
                f"{ERROR_LABELS[error]}, {unit_symbol(error)}",
                f"{row['molecules']:,.0f}",
                change,
                f"{low} to {high}" if row["molecules"] > 1 else "",
                f"{row['better']:.0%}",
            )
        console.print(differences)


def _number(value: float | None, sign: str = "") -> str:
    """Writes a number in at most six characters; with ``+`` its sign, too."""
    if value is None:
        return ""
    kind = ".3f" if abs(value) < 10 else ".2f" if abs(value) < 1000 else ".3g"
    return f"{value:{sign}{kind}}"
