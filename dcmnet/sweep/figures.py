"""Figures of a sweep: its course, its learning curves, what mattered, and which values are good."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import optuna
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from dcmnet.analysis.figures.style import (
    FITTED_COLOUR,
    LINE_COLOUR,
    MODEL_COLOUR,
    MONOPOLE_COLOUR,
    label_plainly,
    new_axes,
    style_axes,
)
from dcmnet.sweep.space import Choice, Distribution, IntRange, SweepConfig
from dcmnet.sweep.study import slots
from pipeline.files import replaced

_ENDED = {TrialState.COMPLETE: MODEL_COLOUR, TrialState.PRUNED: FITTED_COLOUR}
_LABELS = {TrialState.COMPLETE: "complete", TrialState.PRUNED: "pruned"}
_COLUMNS = 3


def save_figures(study: Study, space: SweepConfig) -> list[str]:
    """Draws what a sweep has come to into its folder.

    ``history.png`` has the trials in their order and their learning curves,
    ``slices.png`` the metric against each field, and ``importance.png`` the share of each
    field in the differences between trials (PED-ANOVA of Watanabe et al., 2023, for the
    better tenth), where there are trials enough to say.

    Returns:
        Names of the files; none before the first trial has ended.
    """
    trials = {
        number: trial
        for number, trial in enumerate(slots(study))
        if trial.state in _ENDED and _best(trial) < math.inf
    }
    if not trials:
        return []
    figures = {
        "history": history_figure(trials, space),
        "slices": slices_figure([*trials.values()], space),
    }
    shares = importances(study)
    if shares:
        figures["importance"] = importance_figure(shares)
    for name, figure in figures.items():
        with replaced(space.folder / f"{name}.png") as partial:
            figure.savefig(partial)
    return [f"{name}.png" for name in figures]


def importances(study: Study) -> dict[str, float]:
    """Returns the share of each field in what makes trials good; empty where it is unknown.

    At least two trials have to be complete and differ.
    """
    values = {
        trial.value for trial in study.get_trials(deepcopy=False, states=[TrialState.COMPLETE])
    }
    if len(values) < 2:
        return {}
    evaluator = optuna.importance.PedAnovaImportanceEvaluator()
    return optuna.importance.get_param_importances(study, evaluator=evaluator)


def history_figure(trials: Mapping[int, FrozenTrial], space: SweepConfig) -> Figure:
    """Draws the best of each trial in their order, and the learning curve of each."""
    figure, (course, curves) = new_axes(columns=2)
    for state, colour in _ENDED.items():
        found = [(n, _best(t)) for n, t in trials.items() if t.state is state]
        if found:
            numbers, lowest = zip(*found, strict=True)
            course.scatter(numbers, lowest, s=22, color=colour, label=_LABELS[state])
    done = [(n, _best(t)) for n, t in trials.items() if t.state is TrialState.COMPLETE]
    if done:
        numbers, values = zip(*done, strict=True)
        course.step(
            numbers,
            np.minimum.accumulate(values),
            where="post",
            color=MONOPOLE_COLOUR,
            linewidth=1.2,
            label="best so far",
        )
    course.set_xlabel("trial")
    course.set_ylabel(f"lowest {_label(space)}")
    course.xaxis.set_major_locator(MaxNLocator(integer=True))
    course.legend(frameon=False)
    # The complete ones last, on top of the others.
    for trial in sorted(trials.values(), key=lambda t: t.state is TrialState.COMPLETE):
        epochs, values = zip(*sorted(trial.intermediate_values.items()), strict=True)
        curves.plot(epochs, values, color=_ENDED[trial.state], alpha=0.7, linewidth=1.0)
        curves.plot(epochs[-1], values[-1], ".", color=_ENDED[trial.state], markersize=5)
    curves.set_xlabel("epoch")
    curves.set_ylabel(_label(space))
    curves.xaxis.set_major_locator(MaxNLocator(integer=True))
    for ax in (course, curves):
        _scale(
            ax, [value for trial in trials.values() for value in trial.intermediate_values.values()]
        )
    return figure


def slices_figure(trials: Sequence[FrozenTrial], space: SweepConfig) -> Figure:
    """Draws the lowest metric of each trial against each field."""
    columns = min(_COLUMNS, len(space.search))
    rows = -(-len(space.search) // columns)
    figure = Figure(figsize=(4.2 * columns, 3.6 * rows), layout="constrained", dpi=150)
    axes = np.atleast_1d(figure.subplots(rows, columns, sharey=True)).ravel()
    for ax, (name, searched) in zip(axes, space.search.items(), strict=False):
        style_axes(ax)
        _draw_slice(ax, trials, name, searched)
        _scale(ax, [_best(trial) for trial in trials])
    for ax in axes[::columns]:
        ax.set_ylabel(f"lowest {_label(space)}")
    for ax in axes[len(space.search) :]:
        ax.set_visible(False)
    return figure


def _draw_slice(ax: Axes, trials: Sequence[FrozenTrial], name: str, searched: Distribution) -> None:
    ax.set_xlabel(name)
    if isinstance(searched, Choice):
        labels = [str(value) for value in searched.values]
        ax.set_xticks(range(len(labels)), labels)
        ax.set_xlim(-0.5, len(labels) - 0.5)
    elif searched.log:
        ax.set_xscale("log")
    elif isinstance(searched, IntRange):
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    rng = np.random.default_rng(0)  # scatters the dots of choices, nothing else
    for state, colour in _ENDED.items():
        found = [trial for trial in trials if trial.state is state]
        places = [trial.params[name] for trial in found]
        if isinstance(searched, Choice):
            places = [searched.values.index(p) + rng.uniform(-0.15, 0.15) for p in places]
        ax.scatter(places, [_best(t) for t in found], s=22, alpha=0.8, color=colour)


def importance_figure(shares: dict[str, float]) -> Figure:
    """Draws the share of each field as a bar, the largest on top."""
    figure, (ax,) = new_axes(height=1.2 + 0.45 * len(shares))
    names = sorted(shares, key=shares.__getitem__)
    bars = ax.barh(names, [shares[name] for name in names], color=MODEL_COLOUR, height=0.6)
    ax.bar_label(bars, fmt="{:.0%}", padding=3, color=LINE_COLOUR)
    ax.set_xlim(0.0, 1.1 * max([*shares.values(), 0.1]))
    ax.xaxis.set_major_formatter("{x:.0%}")
    ax.set_xlabel("share in what makes trials good")
    ax.grid(visible=False, axis="y")
    return figure


def _best(trial: FrozenTrial) -> float:
    return min(trial.intermediate_values.values(), default=math.inf)


def _label(space: SweepConfig) -> str:
    return f"validation {space.metric}" if space.metric else "validation ESP RMSE (kcal/mol/e)"


def _scale(ax: Axes, values: Sequence[float]) -> None:
    """Makes the axis logarithmic where the values are far apart."""
    found = [value for value in values if math.isfinite(value)]
    if min(found) > 0 and max(found) > 3 * min(found):
        ax.set_yscale("log")
        label_plainly(ax.yaxis)
