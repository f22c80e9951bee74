"""The page of ``dcmnet bench``."""

from __future__ import annotations

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from pipeline.loader.bench import BenchReport


def print_bench(report: BenchReport, store: str, console: Console) -> None:
    """Prints what a disk and a machine deliver."""
    console.print(
        f"[bold]{escape(store)}[/] · {report.n_molecules:,} molecules · "
        f"batches of {report.batch_size}",
        highlight=False,
    )
    table = Table(box=SIMPLE_HEAD, pad_edge=False, show_header=False)
    table.add_column("")
    table.add_column("", justify="right")
    for label, value in (
        ("molecules/s", f"{report.molecules_per_second:,.0f}"),
        ("MB/s of batches", f"{report.megabytes_per_second:,.0f}"),
        ("first batch after", f"{report.seconds_to_first_batch:.2f} s"),
        ("padding", f"{report.padding_waste:.1%}"),
        ("array shapes", f"{len(report.shapes)}"),
        ("gather from memory, molecules/s", f"{report.in_memory_molecules_per_second:,.0f}"),
        ("share of that", f"{report.share_of_in_memory:.2f}"),
    ):
        table.add_row(label, value)
    console.print(table)
