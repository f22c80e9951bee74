"""What each section of the page says, in words and single numbers."""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from dcmnet.analysis.figures.esp import shown_levels
from dcmnet.report.content import ReportContent, ResultsContent, StoreContent
from dcmnet.report.opening import SPLIT_NAMES, STATES, duration
from pipeline.inspection.inspect import Distribution

Facts = Mapping[str, str]


def data_facts(store: StoreContent) -> Facts:
    """Returns what the store holds."""
    found, schema = store.inspection, store.inspection.store_schema
    facts = {
        "Molecules": f"{schema.n_molecules:,}"
        + (f", and {schema.n_quarantined:,} set aside" if schema.n_quarantined else ""),
        "Split": ", ".join(f"{n:,} {SPLIT_NAMES[name]}" for name, n in store.splits.items()),
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
        "RMSE of the ESP" if training.esp_loss == "rmse" else "ESP": training.esp_w,
        "field": training.field_w,
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
        "Optimiser": f"{training.optimizer.capitalize()}, learning rate {training.learning_rate:g} "
        + (f"({training.lr_schedule_type})" if training.use_lr_schedule else "(constant)")
        + f", batches of {training.batch_size * training.gradient_accumulation_steps}"
        + (f", averaged with decay {training.ema_decay:g}" if training.use_ema else ""),
    }


def analysed(results: ResultsContent) -> str:
    """Returns what was analysed, and how the errors are to be read."""
    schema, statistics = results.schema, results.statistics
    what = (
        f"Analysed: checkpoint “{schema.checkpoint}”, of epoch {schema.epoch:,}, on "
        f"{statistics.n_molecules:,} {SPLIT_NAMES[schema.split]} molecules"
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


def training_facts(content: ReportContent) -> Facts:
    """Returns how training went."""
    history, last = content.history, content.history[-1]
    best = max((record.epoch for record in history if record.best), default=None)
    seconds = sum(record.seconds for record in history)
    steady = history[1:] or history
    return {
        "State": STATES[content.state],
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


def _charge_order(item: tuple[str, int]) -> float:
    return math.inf if item[0] == "unknown" else float(item[0])


def _range(sizes: Distribution) -> str:
    return f"{sizes.minimum:,.0f} to {sizes.maximum:,.0f}, {sizes.median:,.0f} in the median"
