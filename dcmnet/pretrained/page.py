"""What ``dcmnet models`` prints: the list, and a card."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from string import ascii_uppercase

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
    table.add_column("at", no_wrap=True)
    table.add_column("elements")
    for card in cards:
        level = _level(card)
        rows = [row for row in card.accuracy if row.level_of_theory == level]
        neutral = [row for row in rows if row.molecules.startswith(_NEUTRAL)]
        ions = [row for row in rows if row.molecules in _IONS]
        table.add_row(
            card.name + (" (default)" if card.name == DEFAULT else ""),
            str(card.model.n_dcm),
            str(card.n_members),
            *(_mean(rows) for rows in (neutral, ions)),
            level,
            " ".join(card.elements),
        )
    console.print(table)
    console.print("'dcmnet models NAME' shows a model's card", highlight=False)


def _level(card: ModelCard) -> str:
    """Level of theory of most molecules that a model was tested on."""
    counts: Counter[str] = Counter()
    for row in card.accuracy:
        counts[row.level_of_theory] += row.n_molecules
    return counts.most_common(1)[0][0] if counts else "–"


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
        "n: how many. ESP: its root mean square. MBIS: error of the reference's own charges. q, "
        "+ μ, + Q: of the best charges, dipoles and quadrupoles on the atoms, fitted to each one's "
        "own ESP.",
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
    console.print(_composition(card))
    console.print("[bold]Not for[/]", highlight=False)
    for limit in card.limits:
        console.print(f"  {limit}", highlight=False)
    console.print(f"[bold]Made by[/] {card.recipe}", highlight=False)


def _accuracy(card: ModelCard, level: str) -> Table:
    table = Table(title=f"ESP RMSE of molecules not seen, kcal/mol/e, {level}", box=box.SIMPLE)
    table.padding = 0  # for 80 columns, as pipes have
    table.add_column("molecules", no_wrap=True)
    for name in ("n", "ESP", "mean", "median", "95 %", "MBIS", "q", "+ μ", "+ Q"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in card.accuracy:
        if row.level_of_theory == level:
            model = (row.esp, row.mean, row.median, row.percentile_95)
            ladder = (row.fitted_charges, row.fitted_dipoles, row.fitted_quadrupoles)
            numbers = map(_number, (*model, row.monopoles, *ladder))
            table.add_row(
                row.molecules.removesuffix(" heavy atoms"), f"{row.n_molecules:,}", *numbers
            )
    return table


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def _training(card: ModelCard) -> Table:
    table = Table(title="Trained on, together", box=box.SIMPLE)
    for name in ("", "molecules", "level of theory"):
        table.add_column(name)
    for name in ("geometries", "of them ions"):
        table.add_column(name, justify="right")
    for name, part in zip(ascii_uppercase, card.training, strict=False):
        numbers = f"{part.n_molecules:,}", f"{part.n_ions:,}"
        table.add_row(name, part.what, part.level_of_theory, *numbers)
    return table


def _composition(card: ModelCard) -> Table:
    table = Table(title="Of these, geometries of or with", box=box.SIMPLE)
    table.add_column("")
    for name, _ in zip(ascii_uppercase, card.training, strict=False):
        table.add_column(name, justify="right")
    for what, counts in card.composition():
        table.add_row(what, *(f"{count:,}" for count in counts))
    return table
