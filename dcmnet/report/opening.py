"""How a report opens: what a reader asks, answered before any table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from dcmnet.analysis.figures.esp import RMSE_COLUMNS, shown_levels
from dcmnet.analysis.figures.ladder import rungs_of
from dcmnet.report.content import ReportContent, ResultsContent

SPLIT_NAMES = {
    "train": "training",
    "valid": "validation",
    "test": "test",
    "all": "training, validation and test",
}
STATES = {
    "waiting": "not trained yet",
    "running": "training now",
    "finished": "trained to the end",
    "stopped": "stopped before its last epoch",
}


@dataclass(frozen=True)
class Card:
    """A headline number.

    Attributes:
        label: What it is.
        value: The number.
        unit: Its unit.
        note: What it stands for.
    """

    label: str
    value: str
    unit: str
    note: str


def cards(content: ReportContent) -> list[Card]:
    """Returns the numbers a reader looks for first."""
    if content.results is not None:
        return [*_result_cards(content.results), *_training_cards(content)]
    return _training_cards(content)


def lead(content: ReportContent) -> str:
    """Returns what the experiment came to, in a few sentences."""
    results, charges = content.results, content.config.model.n_dcm
    what = f"{charges} charge{'s' if charges > 1 else ''} per atom"
    if results is None:
        best = _best(content)
        reached = (
            f" Its best epoch{_so_far(content)} reached a mean ESP RMSE of {best:.2f} kcal/mol/e "
            "on the validation molecules."
            if best is not None
            else ""
        )
        return (
            f"A network that gives {what}, {STATES[content.state]}.{reached} It has not been "
            "analysed yet."
        )
    table = results.table
    split = SPLIT_NAMES[results.schema.split]
    if not table["esp_rmse"].notna().any():
        return (
            f"With {what}, the network was analysed on {len(table):,} {split} molecules, which "
            "have no reference ESP to compare with: the errors are those of what they have."
            + _of_the_field(table["field_rmse"])
        )
    sentences = [
        f"With {what}, the network reproduces the reference ESP of {len(table):,} {split} "
        f"molecules with a mean error (RMSE per molecule) of {table['esp_rmse'].mean():.2f} "
        "kcal/mol/e."
    ]
    if results.schema.split in ("train", "all"):
        sentences.append("These include molecules that it was trained on.")
    return " ".join(sentences)


def _of_the_field(rmse: pd.Series) -> str:
    if not rmse.notna().any():
        return ""
    return f" Its electric field has a mean error of {rmse.mean():.2f} kcal/mol/e/Å."


def answers(content: ReportContent) -> dict[str, str]:
    """Returns what else a reader asks of results, and the answers."""
    results = content.results
    if results is None or not results.table["esp_rmse"].notna().any():
        return {}
    every = {
        "Compared with what": comparisons(results),
        "How sure": certainty(results),
        "Where it is worst": failures(results),
    }
    return {question: answer for question, answer in every.items() if answer}


def comparisons(results: ResultsContent) -> str:
    """Returns the mean errors of the model and of references, over the same molecules."""
    common, rungs = rungs_of(results.table, results.schema.n_dcm)
    if len(rungs) < 2 or common.empty:
        return ""
    *others, model = ((rung.label, f"{common[rung.column].mean():.2f}") for rung in rungs)
    which = f"Over the {len(common):,} molecules" if len(common) > 1 else "Over the one molecule"
    references = listed([f"{value} for {label}" for label, value in others])
    return (
        f"{which} that have them all, its mean error is {model[1]} kcal/mol/e, compared with "
        f"{references}. Fitted values were fitted to each molecule’s own ESP."
    )


def certainty(results: ResultsContent) -> str:
    """Returns how sure the model is, and how right that is."""
    ensemble = results.statistics.ensemble
    if ensemble is None:
        return (
            "One model alone cannot say how large its error is. Train two more with another "
            "training.seed, and analyse the three together."
        )
    expected = results.table["esp_uncertainty"].median()
    sentences = [
        f"{ensemble.factor:.2f} times the spread of its {ensemble.n_members} networks implies a "
        f"typical error of {expected:.2f} kcal/mol/e."
    ]
    if ensemble.calibration:
        sentences.append(ensemble.calibration.in_words)
    averaged = results.table["esp_rmse_averaged"].mean()
    sentences.append(f"The mean of their ESPs has an error of {averaged:.2f}.")
    return " ".join(sentences)


def failures(results: ResultsContent) -> str:
    """Returns in which groups of points and of molecules the error is largest."""
    statistics = results.statistics
    if not statistics.n_points:
        return ""
    named = {
        "shell": "at a distance of {} van der Waals radii",
        "nearest_element": "around {}",
        "n_atoms": "for molecules of {} atoms",
        "total_charge": "for molecules of charge {}",
    }
    whole = statistics.points["all"]["all"]["model"].rmse
    places = []
    for grouping, words in named.items():
        table = statistics.point_table(grouping)  # type: ignore[arg-type]
        if len(table) > 1:
            worst = table["rmse"].astype(float).idxmax()
            place = words.format(str(worst).replace("-", "−" if "charge" in grouping else "–"))
            places.append(f"{place} ({table['rmse'][worst]:.2f})")
    if not places:
        return ""
    return (
        f"Over all points the ESP RMSE is {whole:.2f} kcal/mol/e. It is largest {listed(places)}."
    )


def listed(parts: Sequence[str]) -> str:
    """Returns parts as a sentence lists them: ``a, b and c``."""
    *others, last = parts
    return f"{', '.join(others)} and {last}" if others else last


def _result_cards(results: ResultsContent) -> list[Card]:
    table, split = results.table, SPLIT_NAMES[results.schema.split]
    shown = []
    if table["esp_rmse"].notna().any():
        note = f"mean of {len(table):,} {split} molecules"
        shown.append(Card("ESP RMSE", f"{table['esp_rmse'].mean():.2f}", "kcal/mol/e", note))
    labels = {"monopoles": "Stored monopoles", "fitted": "Fitted charges"}
    for level in shown_levels(table):
        if level in labels:
            both = table.dropna(subset=["esp_rmse", RMSE_COLUMNS[level]])
            value, ours = both[RMSE_COLUMNS[level]].mean(), both["esp_rmse"].mean()
            # Beside the model's error for the same molecules: others have no such reference.
            note = f"{ours:.2f} by the model for the same {len(both):,}"
            shown.append(Card(labels[level], f"{value:.2f}", "kcal/mol/e", note))
    if "dipole_error" in table and table["dipole_error"].notna().any():
        values = table["dipole_error"].dropna()
        note = f"median of {len(values):,} molecules"
        shown.append(Card("Dipole error", f"{values.median():.2f}", "D", note))
    return shown


def _training_cards(content: ReportContent) -> list[Card]:
    if not content.history:
        return []
    shown, history = [], content.history
    best = _best(content)
    if best is not None and content.results is None:
        shown.append(
            Card(
                "Validation ESP RMSE", f"{best:.2f}", "kcal/mol/e", f"best epoch{_so_far(content)}"
            )
        )
    note = f"epoch {history[-1].epoch:,} of {content.config.training.num_epochs:,}"
    seconds = sum(record.seconds for record in history)
    value, unit = duration(seconds).split(" ", 1)
    shown.append(Card("Training", value, unit, note))
    return shown


def _so_far(content: ReportContent) -> str:
    return "" if content.state == "finished" else " so far"


def _best(content: ReportContent) -> float | None:
    values = [r.valid["esp_rmse"] for r in content.history if r.best and "esp_rmse" in r.valid]
    return values[-1] if values else None


def duration(seconds: float) -> str:
    """Returns a time in the unit that people would take."""
    for unit, length in (("days", 86400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= 2 * length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.2g} s"
