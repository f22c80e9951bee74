"""``dcmnet predict``: from a file to a file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import numpy as np
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress
from rich.table import Table

from dcmnet.console.progress import progress_bar
from dcmnet.experiment.directory import load_model
from dcmnet.experiment.ensemble import load_ensemble
from dcmnet.model.trained import TrainedModel
from dcmnet.prediction.charges import ChargedMolecule
from dcmnet.prediction.inputs import open_structures
from dcmnet.prediction.mixture import Mixture, parse_mixture
from dcmnet.prediction.outputs import (
    check_format,
    check_not_input,
    is_for_simulations,
    new_file,
    write_predictions,
)
from dcmnet.prediction.predict import Predictor
from dcmnet.prediction.refine import RESTRAINT, reference_of, refine_charges
from dcmnet.prediction.simulation.charmm import RESIDUE
from dcmnet.prediction.simulation.conformers import JointRefinement, Target, refine_jointly
from store_schema.problems import ConfigError

# Conformers that one set of charges is fitted to; their ESPs are in memory at once.
_MOST_CONFORMERS: Final = 100


@dataclass
class PredictionReport:
    """What was predicted.

    Attributes:
        path: The file that was written.
        n_molecules: Molecules in it.
        warnings: What the user should know, a sentence each.
        rmse_before: ESP RMSE of each molecule before it was refined, kcal/mol/e.
        rmse_after: And after.
        uncertainties: RMS error to expect of each molecule's ESP, kcal/mol/e; none of a model
            alone, which cannot say.
        conformers: What one set of charges comes to, where several conformers got one.
        is_calibrated: Whether the uncertainties were held against actual errors.
        why_no_estimate: Why molecules without an uncertainty have none.
        uncertainty_limit: Largest of them that is backed by tests; None if that is unknown.
    """

    path: Path
    n_molecules: int
    warnings: tuple[str, ...]
    rmse_before: list[float] = field(default_factory=list)
    rmse_after: list[float] = field(default_factory=list)
    uncertainties: list[float] = field(default_factory=list)
    why_no_estimate: str = ""
    uncertainty_limit: float | None = None
    is_calibrated: bool = False
    conformers: JointRefinement | None = None

    @property
    def doubtful(self) -> int:
        """Molecules whose expected error is beyond what tests back."""
        if self.uncertainty_limit is None:
            return 0
        return sum(size > self.uncertainty_limit for size in self.uncertainties)


def load_mixture(
    model: str | Path | TrainedModel | Sequence[str | Path],
    others: Sequence[str] = (),
    checkpoint: str = "best",
) -> Mixture[TrainedModel]:
    """Loads a model, and those that give some atoms their charges instead of it.

    Args:
        model: An experiment, a published ``.pkl``, or a model; several are an ensemble.
        others: ``H=EXPERIMENT`` by element, ``0,4=EXPERIMENT`` by atom from 0.
        checkpoint: ``best``, ``latest`` or ``epoch_N``, of every experiment.

    Raises:
        CheckpointError: There is no such checkpoint, or it does not fit.
        ConfigError: A text of ``others`` says nothing, or a configuration is not valid.
    """
    sources, by_element, by_atom = parse_mixture(others)
    if isinstance(model, TrainedModel):
        first = model
    else:
        first = load_ensemble([model] if isinstance(model, str | Path) else model, checkpoint)
    models = (first, *(load_model(source, checkpoint) for source in sources))
    return Mixture(models, by_element, by_atom)


def predict_file(
    model: str | Path | TrainedModel | Sequence[str | Path],
    source: str | Path,
    out: str | Path,
    *,
    others: Sequence[str] = (),
    checkpoint: str = "best",
    total_charge: float | None = None,
    strict: bool = False,
    refine: bool = False,
    restraint: float = RESTRAINT,
    residue: str = RESIDUE,
    overwrite: bool = False,
    declare: Mapping[str, str] | None = None,
    console: Console | None = None,
) -> PredictionReport:
    """Predicts all molecules of a file and writes them, whole or not at all.

    Args:
        model: An experiment, a model in the box such as ``dcm2``, a published ``.pkl``, or a
            model. Several experiments are an ensemble, whose first one predicts.
        source: ``.xyz`` of one or many frames, NPZ files of any convention, or a store.
        out: ``.xyz``, ``.npz`` or ``.nc``; for one molecule also ``.dcm`` (CHARMM),
            ``.xml`` (OpenMM) and ``.itp`` (GROMACS), whose charges are fitted to all conformers
            where there are several.
        others: Models of some elements or atoms; see ``load_mixture``.
        checkpoint: ``best``, ``latest`` or ``epoch_N``.
        total_charge: Net charge of every molecule, e; what the source says by default.
        strict: Refuse elements, net charges and sizes that a model has not seen in training, and
            errors to expect beyond what tests back.
        refine: Fit each molecule's charges to the ESP that the source has of it.
        restraint: How strongly refined charges are held to the prediction.
        residue: Name of the residue in files for simulations.
        overwrite: Replace a file of that name.
        declare: What inference shall not decide of NPZ files.
        console: Where a progress bar goes; none by default.

    Raises:
        SourceError: Molecules cannot be read or predicted; nothing is written.
        ConfigError: An option means nothing, or the file exists.
        CheckpointError: A model cannot be loaded.
    """
    path = Path(out)
    check_format(path)
    check_not_input(path, str(source))
    with new_file(path, overwrite) as partial:
        predictor = Predictor(load_mixture(model, others, checkpoint), strict=strict)
        structures = open_structures(
            source, total_charge=total_charge, with_esp=refine, declare=declare
        )
        with progress_bar(console, "molecules") as bar:
            reading = bar.add_task("reading", total=None)
            survey = predictor.survey(structures, lambda n: bar.advance(reading, n))
            count = len(survey.names)
            bar.update(reading, total=count)
            report = PredictionReport(path, count, survey.warnings)
            first = predictor.mixture.models[0]
            report.uncertainty_limit = first.uncertainty_limit
            report.is_calibrated = first.calibration is not None
            report.why_no_estimate = _why_no_estimate(predictor.mixture)
            predicted = predictor.run(structures, survey)
            if is_for_simulations(path) and count > 1:
                predicted = _jointly(predicted, report, refine)
            elif refine:
                predicted = _refined(predicted, restraint, report)
            predicted = _remembered(predicted, report)
            working = bar.add_task("predicting", total=count)
            title = " + ".join(each.name for each in predictor.mixture.models)
            write_predictions(partial, _counted(predicted, bar, working), survey, title, residue)
    return report


def _why_no_estimate(mixture: Mixture[TrainedModel]) -> str:
    if len(mixture.models) > 1:
        return "several models share these molecules"
    if not mixture.models[0].ensemble:
        return "that takes an ensemble, such as dcm2 or several EXPERIMENTs"
    return "all networks agree on a lone atom, which proves nothing"


def _remembered(
    molecules: Iterator[ChargedMolecule], report: PredictionReport
) -> Iterator[ChargedMolecule]:
    for molecule in molecules:
        if molecule.uncertainty is not None:
            report.uncertainties.append(molecule.uncertainty)
        yield molecule


def _refined(
    molecules: Iterator[ChargedMolecule], restraint: float, report: PredictionReport
) -> Iterator[ChargedMolecule]:
    for molecule in molecules:
        refinement = refine_charges(molecule, restraint=restraint)
        report.rmse_before.append(refinement.rmse_before)
        report.rmse_after.append(refinement.rmse_after)
        yield replace(refinement.molecule, uncertainty=None)  # which was the prediction's


def _jointly(
    conformers: Iterator[ChargedMolecule], report: PredictionReport, refine: bool
) -> Iterator[ChargedMolecule]:
    """Yields the one molecule that conformers are, with charges that suit them all."""
    if report.n_molecules > _MOST_CONFORMERS:
        raise ConfigError.of(
            f"--out {report.path}",
            wrong=f"these are {report.n_molecules:,} conformers of one molecule; the file takes "
            f"at most {_MOST_CONFORMERS}",
            consequence="nothing was written",
            remedy="Give conformers that stand for the others, or write .xyz, .npz or .nc",
        )
    every = list(conformers)
    targets = [Target(*reference_of(molecule)) for molecule in every] if refine else None
    report.conformers = refine_jointly(every, targets)
    yield report.conformers.molecule


def _counted(
    molecules: Iterator[ChargedMolecule], bar: Progress, task: object
) -> Iterator[ChargedMolecule]:
    for molecule in molecules:
        yield molecule
        bar.advance(task)  # type: ignore[arg-type]


def print_conformers(joint: JointRefinement, console: Console) -> None:
    """Prints what one set of charges comes to at each conformer."""
    judge = "the model's own ESP" if joint.is_of_predictions else "the reference"
    table = Table(box=box.SIMPLE, title=f"ESP RMSE against {judge}, kcal/mol/e")
    table.add_column("conformer", overflow="fold")
    for name in ("first conformer's charges", "charges written"):
        table.add_column(name, justify="right")
    for name, first, written in zip(joint.names, joint.single[0], joint.errors, strict=True):
        table.add_row(escape(name), f"{first:.3f}", f"{written:.3f}")
    table.add_section()
    table.add_row("mean", f"{joint.single[0].mean():.3f}", f"{joint.errors.mean():.3f}")
    console.print(table)


def print_prediction(report: PredictionReport, console: Console) -> None:
    """Prints what was predicted, and what to know of it."""
    for warning in report.warnings:
        console.print(f"[yellow]Warning:[/] {escape(warning)}", soft_wrap=True, highlight=False)
    if report.rmse_after:
        console.print(
            f"refined: mean ESP RMSE {np.mean(report.rmse_before):.3f} → "
            f"{np.mean(report.rmse_after):.3f} kcal/mol/e",
            highlight=False,
        )
    if report.conformers:
        print_conformers(report.conformers, console)
    if report.uncertainties:
        median, most = np.median(report.uncertainties), np.max(report.uncertainties)
        count = len(report.uncertainties)
        some = f", of {count:,} of {report.n_molecules:,} molecules; the others have no estimate"
        console.print(
            f"ESP error to expect: {median:.2f} kcal/mol/e"
            + (f" (median), {most:.2f} at most" if count > 1 else "")
            + (some if count < report.n_molecules else ""),
            highlight=False,
        )
        if not report.is_calibrated:
            console.print(
                "[yellow]Warning:[/] this is the bare spread of the networks; 'dcmnet analyze' of "
                "the same EXPERIMENTs measures what it means",
                soft_wrap=True,
                highlight=False,
            )
        if report.doubtful:
            console.print(
                f"[yellow]Warning:[/] the error to expect is above {report.uncertainty_limit:.2f} "
                f"kcal/mol/e for {report.doubtful:,} of {report.n_molecules:,}. It was for only "
                "5 % of the molecules that the model was tested on: compute a reference before "
                "you rely on these charges",
                soft_wrap=True,
                highlight=False,
            )
    elif not (report.rmse_after or report.conformers):
        console.print(f"No ESP error is estimated: {report.why_no_estimate}", highlight=False)
    noun = "molecule" if report.n_molecules == 1 else "molecules"
    noun = "conformers of a molecule" if report.conformers else noun
    console.print(
        f"{report.n_molecules:,} {noun} → {escape(str(report.path))}",
        soft_wrap=True,
        highlight=False,
    )
