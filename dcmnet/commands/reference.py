"""The command ``dcmnet reference``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape

from store_schema.words import counted

if TYPE_CHECKING:
    from pipeline.reference.run import ReferenceReport

# Failures that are listed; the others are counted.
_LISTED = 20


def reference(
    structures: Annotated[
        list[str],
        typer.Argument(
            metavar="STRUCTURE...", help=".xyz, .sdf, .mol2, .smi, or a SMILES in quotes."
        ),
    ],
    out: Annotated[str, typer.Option(help="Store, or .npz file, to write.")],
    level: Annotated[
        str, typer.Option(metavar="FUNCTIONAL/BASIS|xtb", help="Level of theory.")
    ] = "PBE0/def2-TZVP",
    points: Annotated[
        int, typer.Option(min=1, help="Points of each ESP, at 1.4 to 2 van der Waals radii.")
    ] = 1500,
    conformers: Annotated[
        int, typer.Option(min=1, help="Geometries of each molecule that has bonds.")
    ] = 1,
    displace: Annotated[
        float, typer.Option(min=0.0, help="Displace atoms at random; standard deviation in Å.")
    ] = 0.0,
    forces: Annotated[bool, typer.Option("--forces", help="Calculate forces, too.")] = False,
    field: Annotated[
        bool, typer.Option("--field", help="Calculate the electric field on the grid, too.")
    ] = False,
    charge: Annotated[
        int | None, typer.Option(help="Net charge, e, of structures that do not say theirs.")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes; one per core if left out.")
    ] = None,
    memory: Annotated[int, typer.Option(min=200, help="MiB for each process.")] = 2000,
) -> None:
    """Calculate reference data of molecules: ESP, moments, MBIS charges."""
    from pipeline.reference.run import reference as run

    report = run(
        list(structures),
        out,
        level=level,
        n_points=points,
        conformers=conformers,
        displace=displace,
        forces=forces,
        field=field,
        total_charge=charge,
        workers=workers,
        memory=memory,
        progress=True,
    )
    print_reference(report, Console())


def print_reference(report: ReferenceReport, console: Console) -> None:
    """Prints what was calculated, and what was not."""
    resumed = f", {report.n_resumed:,} of them before" if report.n_resumed else ""
    console.print(
        f"[green]{counted(report.n_molecules, 'molecule')}[/] at {escape(report.level)}{resumed}; "
        f"written to {escape(report.out)}",
        highlight=False,
        soft_wrap=True,
    )
    if report.n_without_charge:
        console.print(
            f"[yellow]Warning:[/] {counted(report.n_without_charge, 'structure', 'does do')} not "
            "say the net charge, which was taken to be 0; --charge gives it",
            highlight=False,
            soft_wrap=True,
        )
    if report.n_repeated:
        console.print(
            f"[yellow]Warning:[/] {counted(report.n_repeated, 'molecule', 'was were')} named "
            "twice, and calculated once"
        )
    if report.failures:
        console.print(
            f"[yellow]{counted(len(report.failures), 'molecule', 'was were')} left out:[/]"
        )
        for place, reason in list(report.failures.items())[:_LISTED]:
            console.print(f"  {escape(place)}: {escape(reason)}", highlight=False, soft_wrap=True)
