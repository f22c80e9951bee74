"""What ``dcmnet models`` prints: the list, and a card."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.table import Table

from dcmnet.pretrained.box import DEFAULT
from dcmnet.pretrained.card import ModelCard


def print_models(cards: Sequence[ModelCard], console: Console) -> None:
    """Prints a line per model."""
    table = Table(box=box.SIMPLE)
    table.add_column("model")
    for name in ("charges per atom", "networks", "mean ESP RMSE, kcal/mol/e"):
        table.add_column(name, justify="right")
    table.add_column("elements")
    for card in cards:
        accuracy = "; ".join(f"{row.molecules} {row.mean:.2f}" for row in card.accuracy)
        default = " (default)" if card.name == DEFAULT else ""
        table.add_row(
            card.name + default,
            str(card.model.n_dcm),
            str(card.n_members),
            accuracy,
            " ".join(card.elements),
        )
    console.print(table)
    console.print("'dcmnet models NAME' shows a model's card", highlight=False)


def print_card(card: ModelCard, console: Console) -> None:
    """Prints what a model learned from, how good it is, and what it is not for."""
    charges = ", ".join(f"{charge:+d}" if charge else "0" for charge in card.total_charges)
    console.print(
        f"[bold]{card.name}[/], charges per atom: {card.model.n_dcm}; {', '.join(card.elements)}; "
        f"net charge {charges}; up to {card.most_atoms} atoms",
        highlight=False,
    )
    console.print(_accuracy(card))
    sure = card.calibration
    console.print(
        f"The ESP error that predictions state is {sure.factor:.2f} times the spread of "
        f"{card.n_members} networks. On {sure.n_molecules} molecules that they had not seen, its "
        f"rank correlation with the actual error is {sure.correlation:.2f}, and "
        f"{sure.within_twice:.0%} of the errors are below twice what is stated.",
        highlight=False,
    )
    console.print(_training(card))
    console.print("[bold]Not for[/]", highlight=False)
    for limit in card.limits:
        console.print(f"  {limit}", highlight=False)
    console.print(f"[bold]Made by[/] {card.recipe}", highlight=False)


def _accuracy(card: ModelCard) -> Table:
    table = Table(title="ESP RMSE of molecules it has not seen, kcal/mol/e", box=box.SIMPLE)
    for name in ("molecules", "level of theory"):
        table.add_column(name)
    for name in ("number", "ESP itself", "mean", "median", "95 %"):
        table.add_column(name, justify="right")
    for name in ("MBIS charges", "fitted charges", "+ dipoles", "+ quadrupoles"):
        table.add_column(name, justify="right")
    for row in card.accuracy:
        values = (row.esp, row.mean, row.median, row.percentile_95, row.monopoles)
        ladder = (row.fitted_charges, row.fitted_dipoles, row.fitted_quadrupoles)
        table.add_row(
            row.molecules,
            row.level_of_theory,
            f"{row.n_molecules:,}",
            *("–" if value is None else f"{value:.2f}" for value in (*values, *ladder)),
        )
    return table


def _training(card: ModelCard) -> Table:
    table = Table(title="Trained on, in this order", box=box.SIMPLE)
    for name in ("molecules", "level of theory"):
        table.add_column(name)
    for name in ("geometries", "of them ions"):
        table.add_column(name, justify="right")
    for part in card.training:
        table.add_row(part.what, part.level_of_theory, f"{part.n_molecules:,}", f"{part.n_ions:,}")
    return table
