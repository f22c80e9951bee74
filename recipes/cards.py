"""The tables of docs/models.md, out of the cards in the box.

``python -m recipes.cards`` writes them into the page, between its marks.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from dcmnet.pretrained import pretrained_names, read_card
from dcmnet.pretrained.card import ModelCard

PAGE: Final = Path(__file__).parents[1] / "docs" / "models.md"
_MARKED: Final = re.compile(r"(<!-- cards -->\n).*(<!-- end of cards -->)", re.DOTALL)
_TRAINING: Final = re.compile(r"(<!-- training -->\n).*(<!-- end of training -->)", re.DOTALL)
_ACCURACY: Final = (
    *("molecules", "level of theory", "number", "ESP", "mean", "median", "95 %"),
    *("MBIS charges", "fitted charges", "+ dipoles", "+ quadrupoles"),
)


def markdown(card: ModelCard) -> str:
    """Returns the section of a model."""
    rows = [
        (
            *(row.molecules, row.level_of_theory, f"{row.n_molecules:,}"),
            *map(_number, (row.esp, row.mean, row.median, row.percentile_95, row.monopoles)),
            *map(_number, (row.fitted_charges, row.fitted_dipoles, row.fitted_quadrupoles)),
        )
        for row in card.accuracy
    ]
    sure, network = card.calibration, card.model
    noun = "charge" if network.n_dcm == 1 else "charges"
    return (
        f"### {card.name}: {network.n_dcm} {noun} per atom\n\n"
        f"{_table(_ACCURACY, rows)}\n"
        f"The error to expect comes from the spread of {card.n_members} networks, "
        f"which had seen none of the molecules it was measured on. {sure.in_words} "
        f"The networks have {network.features} features, {network.num_iterations} iterations and "
        f"a cutoff of {network.cutoff:g} Å.\n"
    )


def composition(card: ModelCard) -> str:
    """Returns what a model was trained on, by element, net charge and size."""
    every = [("geometries", [part.n_molecules for part in card.training]), *card.composition()]
    rows = [(what, *(f"{count:,}" for count in counts)) for what, counts in every]
    heads = ("", *(f"{part.what} ({part.level_of_theory})" for part in card.training))
    return _table(heads, rows, left=1)


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]], left: int = 2) -> str:
    rule = ["---"] * left + ["--:"] * (len(heads) - left)
    return "".join(f"| {' | '.join(cells)} |\n" for cells in (heads, rule, *rows))


def written(page: str) -> str:
    """Returns the page with the tables of the cards as they are."""
    cards = [read_card(name) for name in pretrained_names()]
    tables = "\n".join(map(markdown, cards))
    page = _MARKED.sub(lambda found: f"{found[1]}\n{tables}\n{found[2]}", page)
    # The same for all of them.
    return _TRAINING.sub(lambda found: f"{found[1]}\n{composition(cards[0])}\n{found[2]}", page)


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
