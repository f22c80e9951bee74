"""What ``dcmnet models`` prints: the list, and a card."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table

from dcmnet.pretrained.box import DEFAULT
from dcmnet.pretrained.card import Accuracy, ModelCard

# Groups of a card that the list sums up; others overlap with them, or are of unusual geometries.
_NEUTRAL = "neutral, "
_IONS = ("anions", "cations")


def print_models(cards: Sequence[ModelCard], console: Console) -> None:
    """Prints a line per model."""
    table = Table(title="Mean ESP RMSE of molecules not seen, kcal/mol/e", box=box.SIMPLE)
    table.add_column("model")
    for name in ("charges per atom", "networks", "neutral", "ions"):
        table.add_column(name, justify="right")
    table.add_column("elements")
    for card in cards:
        neutral = [row for row in card.accuracy if row.molecules.startswith(_NEUTRAL)]
        ions = [row for row in card.accuracy if row.molecules in _IONS]
        table.add_row(
            card.name + (" (default)" if card.name == DEFAULT else ""),
            str(card.model.n_dcm),
            str(card.n_members),
            *(_mean(rows) for rows in (neutral, ions)),
            " ".join(card.elements),
        )
    console.print(table)
    console.print("'dcmnet models NAME' shows a model's card", highlight=False)


def _mean(rows: Sequence[Accuracy]) -> str:
    numbers = [row.n_molecules for row in rows]
    return f"{np.average([row.mean for row in rows], weights=numbers):.2f}" if rows else "–"


def print_card(card: ModelCard, console: Console) -> None:
    """Prints what a model learned from, how good it is, and what it is not for."""
    charges = ", ".join(f"{charge:+d}" if charge else "0" for charge in card.total_charges)
    console.print(
        f"[bold]{card.name}[/], charges per atom: {card.model.n_dcm}; {', '.join(card.elements)}; "
        f"net charge {charges}; up to {card.most_atoms} atoms",
        highlight=False,
    )
    for level in dict.fromkeys(row.level_of_theory for row in card.accuracy):
        console.print(_accuracy(card, level))
    console.print(
        "ESP: its root mean square. MBIS: error of the reference's own charges. fitted: of the "
        "best charges on the atoms, fitted to each molecule's own ESP.",
        highlight=False,
    )
    sure = card.calibration
    console.print(
        "The ESP error that predictions state comes from the spread of "
        f"{card.n_members} networks. They had seen none of the molecules it was measured on. "
        f"{sure.in_words}",
        highlight=False,
    )
    console.print(_training(card))
    console.print("[bold]Not for[/]", highlight=False)
    for limit in card.limits:
        console.print(f"  {limit}", highlight=False)
    console.print(f"[bold]Made by[/] {card.recipe}", highlight=False)


def _accuracy(card: ModelCard, level: str) -> Table:
    table = Table(title=f"ESP RMSE of molecules not seen, kcal/mol/e, {level}", box=box.SIMPLE)
    table.add_column("molecules", no_wrap=True)
    for name in ("number", "ESP", "mean", "median", "95 %", "MBIS", "fitted"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in card.accuracy:
        if row.level_of_theory == level:
            model = (row.esp, row.mean, row.median, row.percentile_95)
            numbers = map(_number, (*model, row.monopoles, row.fitted_charges))
            table.add_row(
                row.molecules.removesuffix(" heavy atoms"), f"{row.n_molecules:,}", *numbers
            )
    return table


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def _training(card: ModelCard) -> Table:
    table = Table(title="Trained on, together", box=box.SIMPLE)
    for name in ("molecules", "level of theory"):
        table.add_column(name)
    for name in ("geometries", "of them ions"):
        table.add_column(name, justify="right")
    for part in card.training:
        table.add_row(part.what, part.level_of_theory, f"{part.n_molecules:,}", f"{part.n_ions:,}")
    return table
