"""The ladder of references: the model's error among those of multipoles on the atoms."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dcmnet.analysis.figures.style import (
    FITTED_COLOUR,
    MODEL_COLOUR,
    MONOPOLE_COLOUR,
    label_plainly,
    new_axes,
)


class Rung(NamedTuple):
    """One level of the ladder.

    Attributes:
        column: Its error in the table of molecules.
        label: What it is called.
        per_atom: Numbers that it has per atom, beyond the place of the atom.
        colour: Of its marks.
    """

    column: str
    label: str
    per_atom: int
    colour: str


_REFERENCES: Final = (
    Rung("esp_rmse_monopoles", "reference monopoles", 1, MONOPOLE_COLOUR),
    Rung("esp_rmse_stored_multipoles", "reference multipoles", 4, MONOPOLE_COLOUR),
    Rung("esp_rmse_fitted", "fitted charges", 1, FITTED_COLOUR),
    Rung("esp_rmse_fitted_dipoles", "fitted charges and dipoles", 4, FITTED_COLOUR),
    Rung("esp_rmse_fitted_quadrupoles", "fitted charges to quadrupoles", 9, FITTED_COLOUR),
)


def rungs_of(table: pd.DataFrame, n_dcm: int) -> tuple[pd.DataFrame, list[Rung]]:
    """Returns the molecules that have all rungs, and the rungs, the model last.

    Args:
        table: As ``molecule_table``, with some ESP RMSE of the model. A level that no molecule
            has together with those fitted to the ESP is left out.
        n_dcm: Charges per atom of the model.
    """
    # Each charge has a value and three coordinates.
    model = Rung("esp_rmse", f"model, {n_dcm} per atom", 4 * n_dcm, MODEL_COLOUR)
    common, shown = table.dropna(subset=model.column), [model]
    for rung in reversed(_REFERENCES):
        having = common[common[rung.column].notna()] if rung.column in common else common[:0]
        if len(having):
            common, shown = having, [rung, *shown]
    return common, shown


def ladder_figure(table: pd.DataFrame, n_dcm: int) -> Figure:
    """Draws each molecule's ESP RMSE by level of model, and the mean by numbers per atom.

    Args:
        table: As ``molecule_table``; molecules that lack a level are left out.
        n_dcm: Charges per atom of the model.
    """
    figure, (levels, numbers) = new_axes(columns=2)
    common, rungs = rungs_of(table, n_dcm)
    _draw_levels(levels, common, rungs)
    _draw_numbers(numbers, common, rungs)
    return figure


def _draw_levels(ax: Axes, common: pd.DataFrame, rungs: Sequence[Rung]) -> None:
    rng = np.random.default_rng(0)  # scatters the dots, nothing else
    for place, rung in enumerate(rungs):
        errors = common[rung.column].to_numpy()
        height = place + rng.uniform(-0.22, 0.22, errors.size)
        ax.scatter(errors, height, s=9, alpha=0.35, linewidths=0, color=rung.colour)
        mean, median = errors.mean(), np.median(errors)
        ax.plot(mean, place, "D", color=rung.colour, markeredgecolor="white", markersize=8)
        ax.plot(median, place, "|", color="black", markersize=17, markeredgewidth=2)
        ax.annotate(f"{mean:.2f}", (1.02, place), xycoords=("axes fraction", "data"), va="center")
    ax.annotate("mean", (1.02, len(rungs) - 0.45), xycoords=("axes fraction", "data"))
    ax.set_yticks(range(len(rungs)), [rung.label for rung in rungs])
    ax.set_ylim(-0.6, len(rungs) - 0.4)
    ax.set_xscale("log")
    label_plainly(ax.xaxis)
    ax.set_xlabel("ESP RMSE per molecule (kcal/mol/e)\n◆ mean, | median")


def _draw_numbers(ax: Axes, common: pd.DataFrame, rungs: Sequence[Rung]) -> None:
    groups = {"reference": MONOPOLE_COLOUR, "fitted to each ESP": FITTED_COLOUR}
    for name, colour in {**groups, "model": MODEL_COLOUR}.items():
        own = [rung for rung in rungs if rung.colour == colour]
        if not own:
            continue
        at = [rung.per_atom for rung in own]
        errors = [common[rung.column] for rung in own]
        marker, size = ("*", 15.0) if name == "model" else ("o", 7.0)
        ax.plot(at, [e.mean() for e in errors], marker=marker, ms=size, color=colour, label=name)
        ax.plot(at, [e.median() for e in errors], marker=marker, ms=size / 2, ls=":", color=colour)
    ax.set_ylim(bottom=0.0)
    ax.set_xticks(sorted({rung.per_atom for rung in rungs}))
    ax.set_xlabel("numbers per atom (a displaced charge has 4)")
    ax.set_ylabel("mean ESP RMSE (kcal/mol/e), small: median")
    ax.legend(frameon=False)
