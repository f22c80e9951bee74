"""The figure of a comparison."""

from __future__ import annotations

from itertools import cycle
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from dcmnet.analysis.comparison import Comparison
from dcmnet.analysis.export import write_table
from dcmnet.analysis.figures.style import LINE_COLOUR, new_axes
from pipeline.files import replaced
from store_schema.problems import ConfigError

# Okabe and Ito's, which the colour-blind can distinguish, as far as they go.
_COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#d55e00", "#56b4e9", "#5b6472")


def comparison_figure(comparison: Comparison) -> Figure:
    """Draws how the ESP RMSE is distributed, and the paired differences to the first.

    Left the share of molecules with at most an error, by contender; then the mean
    difference of each to the first with its 95 % confidence interval, over the
    differences of single molecules; right the error by charges per atom, where the
    contenders differ in it.
    """
    several = comparison.summary["n_dcm"].nunique() > 1
    figure, (ordered, paired, *by_number) = new_axes(columns=3 if several else 2)
    labels = list(comparison.summary.index)
    colours = dict(zip(labels, cycle(_COLOURS), strict=False))
    for label in labels:
        values = np.sort(comparison.molecules[label].to_numpy())
        share = np.arange(values.size + 1) / values.size
        ordered.step([values[0], *values], share, where="post", color=colours[label], label=label)
        ordered.axvline(values.mean(), color=colours[label], linewidth=0.9, linestyle=":")
    ordered.set_xlim(left=0.0)
    ordered.yaxis.set_major_formatter(PercentFormatter(xmax=1.0))
    ordered.set_xlabel("ESP RMSE per molecule (kcal/mol/e), dotted: mean")
    ordered.set_ylabel("molecules with at most this error")
    ordered.legend(frameon=False, loc="lower right")
    _draw_differences(paired, comparison, colours)
    for ax in by_number:
        _draw_numbers(ax, comparison, colours)
    return figure


def check_figure(path: Path) -> None:
    """Refuses a name that no figure can have, before there is one to write.

    Raises:
        ConfigError: Matplotlib has no format of that suffix.
    """
    kinds = {f".{kind}" for kind in Figure().canvas.get_supported_filetypes()}
    if path.suffix not in kinds:
        raise ConfigError.of(
            str(path),
            wrong=f"a figure cannot end in {path.suffix or 'nothing'}; {path.stem}.png or "
            f"{path.stem}.pdf can",
            consequence="no figure was written",
            remedy="Give it another suffix",
        )


def save_comparison(comparison: Comparison, path: Path) -> tuple[Path, Path]:
    """Writes the figure, and its molecules as CSV next to it; returns both paths.

    Raises:
        ConfigError: As ``check_figure``.
    """
    check_figure(path)
    figure = comparison_figure(comparison)
    with replaced(path) as partial:
        figure.savefig(partial)
    return path, write_table(path.with_suffix(".csv"), comparison.molecules)


def _draw_numbers(ax: Axes, comparison: Comparison, colours: dict[str, str]) -> None:
    summary = comparison.summary.sort_values("n_dcm", kind="stable")
    for statistic, line in (("mean", "-"), ("median", ":")):
        best = summary.groupby("n_dcm")[f"esp_rmse_{statistic}"].min()
        ax.plot(best.index, best, line, color=LINE_COLOUR, linewidth=1, label=statistic)
    for label, row in summary.iterrows():
        ax.plot(row["n_dcm"], row["esp_rmse_mean"], "o", markersize=8, color=colours[str(label)])
    ax.set_ylim(0.0, 1.1 * float(summary["esp_rmse_mean"].max()))
    ax.set_xticks(sorted(set(summary["n_dcm"].astype(int))))
    ax.set_xlabel("charges per atom")
    ax.set_ylabel("ESP RMSE (kcal/mol/e)")
    ax.legend(frameon=False)


def _draw_differences(ax: Axes, comparison: Comparison, colours: dict[str, str]) -> None:
    first, *others = comparison.summary.index
    rng = np.random.default_rng(0)  # scatters the dots, nothing else
    for place, label in enumerate(others):
        difference = comparison.molecules[label] - comparison.molecules[first]
        height = place + rng.uniform(-0.25, 0.25, len(difference))
        ax.scatter(difference, height, s=10, alpha=0.5, linewidths=0, color=colours[label])
        found = comparison.differences.loc[(label, "esp_rmse")]
        ax.plot([found["low"], found["high"]], [place, place], color=LINE_COLOUR, linewidth=2.5)
        ax.plot(found["difference"], place, "o", color=LINE_COLOUR)
    ax.axvline(0.0, color=LINE_COLOUR, linewidth=0.8, linestyle="--")
    ax.set_yticks(range(len(others)), others)
    ax.set_ylim(len(others) - 0.5, -0.5)
    ax.grid(visible=False, axis="y")
    ax.set_xlabel(f"ESP RMSE − that of {first} (kcal/mol/e)\n← better            worse →")
