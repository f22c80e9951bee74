"""A page that is kept open while an experiment trains: new numbers, and the reader's place."""

import pytest

from dcmnet.experiment.directory import Experiment
from dcmnet.report.serving import served
from pipeline.files import exclusive
from tests.dcmnet.report.test_report import browser, needs_chromium  # noqa: F401
from tests.dcmnet.report.test_watch import last_lines, watched
from tests.experiments import copy

pytestmark = [pytest.mark.distributed, needs_chromium]
WIDTH = 390
POINTS = "plot => plot.calcdata.reduce((most, trace) => Math.max(most, trace.length), 0)"
RANGE = "plot => plot._fullLayout.xaxis.range"


@pytest.fixture
def experiment(trained, tmp_path):
    return copy(trained[2], tmp_path / "trial")


def test_an_open_page_follows_without_losing_the_place(experiment, browser, tmp_path):  # noqa: F811
    metrics, later = Experiment(experiment).metrics_path, last_lines(experiment, keep=1)
    out = tmp_path / "page.html"
    tab = browser.new_context(viewport={"width": WIDTH, "height": 700}).new_page()
    tab.set_default_timeout(120_000)
    complaints, requests = [], []
    tab.on("pageerror", lambda error: complaints.append(str(error)))
    tab.on("console", lambda m: complaints.append(m.text) if m.type == "error" else None)
    tab.on("request", lambda request: requests.append(request.url))
    bar = tab.locator(".live")

    def wait_for(text):
        tab.wait_for_function(
            "text => document.querySelector('.live').innerText.includes(text)", arg=text
        )

    with exclusive(experiment, wait=False), watched(experiment, out) as live:
        with served(out, 0, lambda: live.status) as url:
            tab.goto(url)
            wait_for("epoch 1 of 3")
            assert tab.title().startswith("Training · trial")
            plot = tab.locator("#learning .plot").first
            plot.scroll_into_view_if_needed()
            plot.locator("svg.main-svg").first.wait_for(state="attached")
            tab.evaluate("scrollBy({top: 60, behavior: 'instant'})")
            plot.evaluate("plot => Plotly.relayout(plot, {'xaxis.range': [0.25, 2.5]})")
            tab.locator("details").first.evaluate("part => part.open = true")
            tab.evaluate("window.kept = document.querySelector('#learning .plot')")
            place, points = tab.evaluate("scrollY"), plot.evaluate(POINTS)
            assert place > 0
            assert points == 1
            with metrics.open("a") as file:
                file.writelines(later)
            wait_for("epoch 3 of 3")
            assert plot.evaluate(POINTS) == 3
            assert plot.evaluate(RANGE) == [0.25, 2.5], "as the reader left it"
            assert tab.evaluate("scrollY") == place
            assert tab.evaluate("kept === document.querySelector('#learning .plot')")
            assert tab.locator("details").first.evaluate("part => part.open")
            assert "3 of 3" in tab.locator("#training .facts").inner_text()
            assert bar.bounding_box()["y"] == 0, "in view wherever the reader is"
            assert tab.evaluate("document.documentElement.scrollWidth") <= WIDTH
            assert complaints == []
        wait_for("Not connected")
        assert plot.evaluate(POINTS) == 3
    assert {request.split("?")[0] for request in requests if request.startswith("http")} == {
        url,
        url + "live",
    }
