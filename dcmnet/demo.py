"""The whole line on the bundled sample: ingest, predict, fine-tune, analyse, report."""

from __future__ import annotations

import shutil
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from dcmnet.analysis.run import analyze
from dcmnet.analysis.tables import print_analysis
from dcmnet.prediction.run import predict_file, print_prediction
from dcmnet.pretrained import DEFAULT
from dcmnet.report import write_report
from dcmnet.train_runner import run_training
from pipeline import ingest
from pipeline.inspection.pages import print_report
from pipeline.sample import sample_sources

_NAME = "demo"


def run(out: Path, console: Console) -> None:
    """Runs the demonstration.

    Args:
        out: Directory for the store and the experiment; those of an earlier
            demonstration there are replaced.
        console: Where it prints what it does.
    """
    store = out / "sample.zarr"
    experiment = out / "experiments" / _NAME
    for old in (store, experiment):
        shutil.rmtree(old, ignore_errors=True)
    out.mkdir(parents=True, exist_ok=True)

    console.rule("1 · ingest: NPZ files of several conventions into one store")
    print_report(ingest(sample_sources(), store), store, console)

    console.rule("2 · predict: a model in the box, without any training")
    predicted = predict_file(DEFAULT, store, out / "charges.nc", overwrite=True, console=console)
    print_prediction(predicted, console)

    console.rule("3 · fine-tune: half a minute on these molecules")
    run_training(
        _NAME,
        store,
        preset="finetune",
        console=console,
        init_from=DEFAULT,
        out=str(experiment.parent),
    )

    console.rule("4 · analyse: results back into the store")
    before = analyze(DEFAULT, store=store, split="test", ladder=0)
    analysis = analyze(experiment, split="test")
    print_analysis(analysis, console)
    untouched, tuned = (
        each.statistics.molecules["all"]["all"]["esp_rmse"].mean for each in (before, analysis)
    )
    console.print(
        f"{DEFAULT} as it comes: {untouched:.2f} kcal/mol/e on average; fine-tuned: {tuned:.2f}",
        highlight=False,
    )

    console.rule("5 · report: one page for people")
    page = write_report(experiment)
    console.print(escape(f"The report, for a browser: {page}"), soft_wrap=True)
    where = f"The store, for xarray: {store} (results in {analysis.results})"
    console.print(escape(where), soft_wrap=True)
