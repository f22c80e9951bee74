"""What each section of the page says, in words and single numbers."""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dcmnet.analysis.figures.esp import RMSE_COLUMNS, shown_levels
from dcmnet.report.content import ReportContent, ResultsContent, StoreContent
from pipeline.inspection.inspect import Distribution

_SPLIT_NAMES = {
    "train": "training",
    "valid": "validation",
    "test": "test",
    "all": "training, validation and test",
}
_STATES = {
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


Facts = Mapping[str, str]


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
            f"A network that gives {what}, {_STATES[content.state]}.{reached} It has not been "
            "analysed yet."
        )
    table = results.table
    split = _SPLIT_NAMES[results.schema.split]
    if not table["esp_rmse"].notna().any():
        return (
            f"With {what}, the network was analysed on {len(table):,} {split} molecules, which "
            "have no reference ESP to compare with: the errors are those of what they have."
        )
    sentences = [
        f"With {what}, the network reproduces the reference ESP of {len(table):,} {split} "
        f"molecules with a mean error (RMSE per molecule) of {table['esp_rmse'].mean():.2f} "
        "kcal/mol/e."
    ]
    levels = shown_levels(table)
    if len(levels) > 1:
        common = table.dropna(subset=[RMSE_COLUMNS[level] for level in levels])
        means = {level: common[RMSE_COLUMNS[level]].mean() for level in levels}
        which = f"the {len(common):,} that have references" if len(common) < len(table) else "them"
        sentence = f"For {which}, it is {means['model']:.2f}"
        if "monopoles" in means:
            sentence += (
                f", compared with {means['monopoles']:.2f} of the monopoles stored with the data"
            )
        if "fitted" in means:
            sentence += f" and {means['fitted']:.2f} of charges fitted to each molecule’s own ESP"
        sentences.append(sentence + ".")
    if results.schema.split in ("train", "all"):
        sentences.append("These include molecules that it was trained on.")
    return " ".join(sentences)


def data_facts(store: StoreContent) -> Facts:
    """Returns what the store holds."""
    found, schema = store.inspection, store.inspection.store_schema
    facts = {
        "Molecules": f"{schema.n_molecules:,}"
        + (f", and {schema.n_quarantined:,} set aside" if schema.n_quarantined else ""),
        "Split": ", ".join(f"{n:,} {_SPLIT_NAMES[name]}" for name, n in store.splits.items()),
    }
    for name, label in (("n_atoms", "Atoms per molecule"), ("n_grid", "ESP points per molecule")):
        if name in found.sizes and found.sizes[name].maximum:
            facts[label] = _range(found.sizes[name])
    facts["Atoms"] = ", ".join(f"{n:,} {symbol}" for symbol, n in found.elements.items())
    if found.total_charges:
        facts["Total charges (e)"] = ", ".join(
            f"{n:,} of {charge.replace('-', '−')}"
            for charge, n in sorted(found.total_charges.items(), key=_charge_order)
        )
    facts["Level of theory"] = (
        ", ".join(sorted({s.level_of_theory for s in schema.sources if s.level_of_theory}))
        or "not stated by the sources"
    )
    if found.bytes_on_disk is not None:
        facts["Size on disk"] = f"{found.bytes_on_disk / 1e6:,.1f} MB"
    return facts


def model_facts(content: ReportContent) -> Facts:
    """Returns what the network is and what it was trained towards."""
    model, training = content.config.model, content.config.training
    weights = {
        "ESP": training.esp_w,
        "monopoles": training.chg_w,
        "dipole": training.dipole_w,
        "quadrupole": training.quadrupole_w,
    }
    parity = "with" if model.include_pseudotensors else "without"
    start = content.config.init_from
    shared = ", by a learned softness" if model.charge_sharing == "softness" else ""
    return {
        "Charges per atom": f"{model.n_dcm}, exact in sum to the total charge{shared}",
        "Network": f"{model.num_iterations} message passes of {model.features} features to degree "
        f"{model.max_degree}, {parity} pseudotensors",
        "Neighbours": f"within {model.cutoff:g} Å, {model.num_basis_functions} radial functions",
        "Parameters": f"{content.n_parameters:,}" + (f", starting from {start}" if start else ""),
        "Targets (weight)": ", ".join(f"{name} ({w:g})" for name, w in weights.items() if w),
        "Optimiser": f"Adam, learning rate {training.learning_rate:g} "
        + (f"({training.lr_schedule_type})" if training.use_lr_schedule else "(constant)")
        + f", batches of {training.batch_size * training.gradient_accumulation_steps}"
        + (f", averaged with decay {training.ema_decay:g}" if training.use_ema else ""),
    }


def analysed(results: ResultsContent) -> str:
    """Returns what was analysed, and how the errors are to be read."""
    schema, statistics = results.schema, results.statistics
    what = (
        f"Analysed: checkpoint “{schema.checkpoint}”, of epoch {schema.epoch:,}, on "
        f"{statistics.n_molecules:,} {_SPLIT_NAMES[schema.split]} molecules"
    )
    if not statistics.n_points:
        return f"{what}, which have no reference ESP."
    return (
        f"{what} with "
        f"{statistics.n_points:,} grid points. The error of a molecule is taken over its own grid "
        "points, all of them outside the van der Waals surface; predicted minus reference."
    )


def references(results: ResultsContent) -> str:
    """Returns what the reference levels are."""
    told = {
        "monopoles": "Reference monopoles are the atomic charges that came with the data, placed "
        "on the nuclei.",
        "fitted": "Fitted charges are the charges on the nuclei that fit each molecule’s own "
        "reference ESP best, with the right total charge: what no model of one charge on each "
        "nucleus can beat. They have seen the answer; the network has not.",
    }
    shown = [told[level] for level in shown_levels(results.table) if level in told]
    return " ".join(shown) or "The data have no reference monopoles to compare with."


def failures(results: ResultsContent) -> str:
    """Returns in which groups of points and of molecules the error is largest."""
    statistics = results.statistics
    if not statistics.n_points:
        return ""
    named = {
        "shell": "at a distance of {} van der Waals radii",
        "nearest_element": "around {}",
        "n_atoms": "about molecules of {} atoms",
        "total_charge": "about molecules of charge {}",
    }
    whole = statistics.points["all"]["all"]["model"].rmse
    told = []
    for grouping, words in named.items():
        table = statistics.point_table(grouping)  # type: ignore[arg-type]
        if len(table) > 1:
            worst = table["rmse"].astype(float).idxmax()
            place = words.format(str(worst).replace("-", "−" if "charge" in grouping else "–"))
            told.append(f"{place} ({table['rmse'][worst]:.2f})")
    if not told:
        return ""
    return (
        f"Over all points the ESP RMSE is {whole:.2f} kcal/mol/e. It is largest "
        + (", ".join(told[:-1]) + " and " if len(told) > 1 else "")
        + f"{told[-1]}."
    )


def training_facts(content: ReportContent) -> Facts:
    """Returns how training went."""
    history, last = content.history, content.history[-1]
    best = max((record.epoch for record in history if record.best), default=None)
    seconds = sum(record.seconds for record in history)
    steady = history[1:] or history
    return {
        "State": _STATES[content.state],
        "Epochs": f"{last.epoch:,} of {content.config.training.num_epochs:,}"
        + (f", the best is {best:,}" if best else ""),
        "Time": f"{duration(seconds)}, of which "
        f"{duration(sum(record.compile_seconds for record in history))} compiling",
        "Speed": f"{np.median([r.molecules_per_second for r in steady]):,.0f} molecules per second",
        "Waiting for input": f"{np.mean([r.input_wait_fraction for r in steady]):.1%} of the time",
        "Padding": f"{last.padding_waste:.1%} of what was computed",
        "Updates": f"{last.updates:,}",
    }


def commands(content: ReportContent) -> list[str]:
    """Returns the commands that make this page again, from the data on."""
    lines, directory = [], content.experiment.directory
    store = shlex.quote(content.store_path)
    if content.store is not None:
        sources = content.store.inspection.store_schema.sources
        files = [source.files for source in sources]
        if sum(map(len, files)) <= 12:
            named = " ".join(
                shlex.quote("+".join(file.name for file in group)) for group in files if group
            )
        else:
            named = "SOURCES..."
        declared = {key: value for source in sources for key, value in source.declared.items()}
        options = "".join(
            f" --declare {shlex.quote(f'{key}={value}')}" for key, value in declared.items()
        )
        lines.append(f"dcmnet ingest {named} --store {store}{options}")
    config = shlex.quote(str(directory / "config.json"))
    lines.append(f"dcmnet train {store} --name {content.config.name}-again --config {config}")
    if content.results is not None:
        schema = content.results.schema
        checkpoint = "" if schema.checkpoint == "best" else f" --checkpoint {schema.checkpoint}"
        again = shlex.quote(str(Path(content.config.out) / f"{content.config.name}-again"))
        lines.append(f"dcmnet analyze {again} --split {schema.split}{checkpoint}")
        lines.append(f"dcmnet report {again}")
    return lines


def next_step(content: ReportContent) -> tuple[str, str] | None:
    """Returns what is missing from the page, and the command that brings it."""
    directory = shlex.quote(str(content.experiment.directory))
    if content.results is not None:
        if content.results.is_current:
            return None
        return (
            f"results/{content.results.name} were made with another configuration than that of "
            "this experiment.",
            f"dcmnet analyze {directory} --overwrite",
        )
    if content.state == "running":
        return ("Training is under way; the errors come with an analysis.", _analysis(directory))
    if not content.history:
        return ("Nothing has been trained yet.", f"dcmnet resume {directory}")
    return ("The experiment has not been analysed.", _analysis(directory))


def _analysis(directory: str) -> str:
    return f"dcmnet analyze {directory} && dcmnet report {directory}"


def _result_cards(results: ResultsContent) -> list[Card]:
    table, split = results.table, _SPLIT_NAMES[results.schema.split]
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


def _charge_order(item: tuple[str, int]) -> float:
    return math.inf if item[0] == "unknown" else float(item[0])


def _range(sizes: Distribution) -> str:
    return f"{sizes.minimum:,.0f} to {sizes.maximum:,.0f}, {sizes.median:,.0f} in the median"


def duration(seconds: float) -> str:
    """Returns a time in the unit that people would take."""
    for unit, length in (("days", 86400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= 2 * length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.2g} s"
