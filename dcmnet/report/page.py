"""The page itself: one HTML file with everything in it."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import jinja2
import plotly.offline
from markupsafe import Markup

from dcmnet.analysis.examples import read_examples
from dcmnet.analysis.figures.esp import grid_points
from dcmnet.experiment.directory import Experiment
from dcmnet.experiment.versions import installed_versions
from dcmnet.report import opening, sections, tables
from dcmnet.report.content import ReportContent, ResultsContent, read_content
from dcmnet.report.error_charts import correlation_panel, references_panel
from dcmnet.report.group_charts import charges_panel, groups_panel
from dcmnet.report.panel import Panel, as_script
from dcmnet.report.reference_charts import calibration_panel, ladder_panel
from dcmnet.report.scenes import scenes_panel
from dcmnet.report.training_charts import learning_panel, pace_panel
from pipeline.files import write_text

REPORT_NAME = "report.html"


def write_report(
    experiment: str | Path,
    *,
    out: str | Path | None = None,
    store: str | Path | None = None,
    results: str | None = None,
    refresh_seconds: float | None = None,
    live: bool = False,
) -> Path:
    """Writes the report of an experiment: one HTML file that needs no network.

    It reports what there is: also of an experiment that was not analysed, or that still
    trains, its data and its training.

    Args:
        experiment: Directory of the experiment.
        out: The file; ``analysis/report.html`` of the experiment where left out. It is
            replaced whole.
        store: Store with the data and the results; the one trained on where left out.
        results: Name of the results group; the experiment's where left out.
        refresh_seconds: Time after which an open page looks for a newer one.
        live: Whether it is served, and then brings itself up to date.

    Returns:
        Path of the file.

    Raises:
        ConfigError: The directory holds no valid experiment.
        StoreError: Results that were asked for by name do not exist.
    """
    content = read_content(experiment, store=store, results=results)
    path = page_path(experiment, out)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, render(content, refresh_seconds, live))
    return path


def page_path(experiment: str | Path, out: str | Path | None = None) -> Path:
    """Returns where the report of an experiment lies."""
    return Path(out) if out is not None else Experiment(experiment).analysis_path / REPORT_NAME


def render(content: ReportContent, refresh_seconds: float | None = None, live: bool = False) -> str:
    """Returns the page of a content."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("dcmnet.report", "template"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["as_script"] = as_script
    return environment.get_template("report.html").render(
        content=content,
        opening=opening,
        sections=sections,
        tables=tables,
        panels=_panels(content),
        versions=installed_versions(),
        refresh_seconds=refresh_seconds if live or content.state == "running" else None,
        live=live,
        made=datetime.now(UTC),
        plotly=Markup(plotly.offline.get_plotlyjs()),
    )


def _panels(content: ReportContent) -> dict[str, Panel]:
    shown: list[Panel] = []
    if content.results is not None:
        shown += _result_panels(content.results)
    if content.history:
        shown += [learning_panel(content.history), pace_panel(content.history)]
    return {panel.name: panel for panel in shown}


def _result_panels(results: ResultsContent) -> list[Panel]:
    shown, statistics = [], results.statistics
    reference, predicted = grid_points(results.tree, results.name)
    if reference.size:
        shown.append(correlation_panel(reference, predicted, of=statistics.n_points))
        shown.append(references_panel(results.table))
        shown.append(ladder_panel(results.table, results.schema.n_dcm))
        if statistics.ensemble:
            shown.append(calibration_panel(results.table, statistics.ensemble))
        shown.append(groups_panel(statistics))
    examples = read_examples(results.tree, results.name, results.table)
    if examples:
        shown.append(scenes_panel(examples))
    if statistics.charges:
        shown.append(charges_panel(statistics))
    return shown
