"""The report of an experiment: what it tells, that it is right, and that it opens in a browser."""

import json
import re
import shutil
from dataclasses import replace
from html.parser import HTMLParser
from types import SimpleNamespace

import numpy as np
import pytest

from dcmnet import run_training
from dcmnet.analysis import analyze
from dcmnet.analysis.statistics import load_statistics
from dcmnet.experiment.directory import Experiment
from dcmnet.report import sections, write_report
from dcmnet.report.content import read_content
from dcmnet.report.opening import lead
from pipeline import ingest
from pipeline.sample import sample_sources
from store_schema.problems import ConfigError, StoreError
from tests.experiments import SETTINGS, copy

# What a browser would run or load if it were not escaped.
NAMES = ["<script>alert('id')</script>", "</script><img src=//example.org/x>", "$a_1$ & <b>C</b>"]
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
needs_chromium = pytest.mark.skipif(
    not CHROMIUM, reason="no Chromium on the path: apt-get install chromium"
)


@pytest.fixture(scope="module")
def analysed(tmp_path_factory):
    """An experiment on molecules with names that are markup, analysed; and its report."""
    folder = tmp_path_factory.mktemp("report")
    with np.load(sample_sources()[1]) as file:
        columns = dict(file)
    ids = columns["ids"].astype("<U64")
    # Conformers of one molecule share what is before the slash; these are ones of their own.
    ids[: len(ids) // 2] = [f"{NAMES[i % 3]}{i}" for i in range(len(ids) // 2)]
    np.savez(folder / "a<b>&c.npz", **{**columns, "ids": ids})
    store = folder / "ions.zarr"
    ingest([folder / "a<b>&c.npz"], store)
    _, _, directory = run_training("marked-up", store, out=str(folder), **SETTINGS)
    analyze(directory, split="all", figures=False)
    return SimpleNamespace(directory=directory, store=store, page=write_report(directory))


def figures_of(page):
    """Returns the charts of a page as their JSON."""
    scripts = re.findall(r'<script type="application/json">(.*?)</script>', page, re.DOTALL)
    return [json.loads(script) for script in scripts]


def text_of(page):
    """Returns a page without its scripts, styles and images."""
    return re.sub(r"<(script|style)\b.*?</\1>|data:image/[^\"]+", "", page, flags=re.DOTALL)


def test_it_answers_in_the_order_a_reader_asks(analysed):
    text = text_of(analysed.page.read_text())
    order = [
        text.index(f">{title}</h2>")
        for title in (
            "How good is it",
            "Against what",
            "Where it fails",
            "What the charges are",
            "What data",
            "What model",
            "How it trained",
            "How to make it again",
        )
    ]
    assert order == sorted(order)
    assert text.index('class="cards') < text.index('class="answers') < order[0]
    assert text.index("<table") > order[0]
    assert "One model alone cannot say how large its error is" in text


def test_its_numbers_are_those_of_the_analysis(analysed):
    text = text_of(analysed.page.read_text())
    statistics = load_statistics(analysed.directory)
    errors = statistics.molecules["all"]["all"]
    for name in ("esp_rmse", "esp_mae", "dipole_error", "monopole_mae"):
        found = errors[name]
        numbers = (found.mean, found.median, found.p95, found.max)
        cells = (f"{found.count:,}", *(f"{number:.3f}" for number in numbers))
        row = r"\s*".join(rf'<td class="number">{re.escape(cell)}</td>' for cell in cells)
        assert re.search(row, text), name
    for level, found in statistics.points["all"]["all"].items():
        assert f'<td class="number">{found.rmse:.3f}</td>' in text, level
    for entry in statistics.worst:
        assert f'<td class="number">{entry.esp_rmse:.2f}</td>' in text
    assert f"{errors['esp_rmse'].mean:.2f} <small>kcal/mol/e</small>" in text


def test_it_says_how_to_make_it_again(analysed):
    text = text_of(analysed.page.read_text())
    schema = read_content(analysed.directory).store.inspection.store_schema
    for source in schema.sources:
        for file in source.files:
            assert file.sha256 in text
    assert re.search(r"Fingerprint of the store</dt><dd>[0-9a-f]{64}<", text)
    assert f"dcmnet train {analysed.store} --name marked-up-again --config" in text
    assert "&#34;num_epochs&#34;: 3" in text
    assert "jax" in text


def test_names_are_text_and_never_markup(analysed):
    page = analysed.page.read_text()
    assert "example.org/x>" not in page
    assert "<script>alert" not in page
    assert "<b>C</b>" not in page
    assert "&lt;script&gt;alert(" in page
    assert "a&lt;b&gt;&amp;c.npz" in page
    traces = [trace for chart in figures_of(page) for trace in chart["data"]]
    hovers = [text for trace in traces for text in trace.get("text", [])]
    assert any("&lt;script&gt;" in text for text in hovers)  # Plotly reads its texts as markup
    assert not any("<" in text for text in hovers)


def test_it_loads_nothing_from_anywhere(analysed):
    page = analysed.page.read_text()
    loaded = []
    parser = HTMLParser()
    parser.handle_starttag = lambda tag, attributes: loaded.extend(
        value for name, value in attributes if name in ("src", "href", "srcset", "action")
    )
    parser.feed(page)
    assert len(loaded) > 10
    assert all(value.startswith(("data:", "#")) for value in loaded)
    assert not re.search(r"@import|url\(", text_of(page))
    assert "default-src 'none'" in page
    assert analysed.page.stat().st_size < 12e6


def test_every_figure_has_words_and_a_still(analysed):
    page = analysed.page.read_text()
    figures = re.findall(r"<figure.*?</figure>", page, re.DOTALL)
    assert {re.search('id="([a-z]+)"', figure)[1] for figure in figures} == {
        "correlation",
        "references",
        "ladder",
        "groups",
        "molecules",
        "charges",
        "learning",
        "pace",
    }
    for figure in figures:
        assert re.search(r"<figcaption>.{40,}</figcaption>", figure)
        still = re.search(r'class="still" src="data:image/png;base64,(.+)" alt="(.+)">', figure)
        assert len(still[1]) > 10_000
        assert len(still[2]) > 40
    for chart in figures_of(page):
        axes = [axis for name, axis in chart["layout"].items() if re.fullmatch("[xy]axis", name)]
        assert axes or "scene" in chart["layout"]
        assert all(axis["title"]["text"] for axis in axes)


def test_scenes_show_each_charge_and_each_atom(analysed):
    tree = read_content(analysed.directory).results.tree
    ids = tree["molecule_id"].values.tolist()
    charts = figures_of(analysed.page.read_text())
    scenes = [chart for chart in charts if "scene" in chart["layout"]]
    assert len(scenes) == 6
    rmse = tree["results/marked-up/esp_rmse"].values
    order = np.argsort(rmse)
    for scene, row in zip(scenes[::2], order[[0, (len(ids) - 1) // 2, -1]], strict=True):
        charges = tree["results/marked-up/charges"].values[row]
        (drawn,) = [trace for trace in scene["data"] if trace.get("mode") == "markers"]
        assert len(drawn["text"]) == np.isfinite(charges).sum()
        values = [float(text.split(" e")[0]) for text in drawn["text"]]
        np.testing.assert_allclose(values, charges[np.isfinite(charges)], atol=5e-4)
        elements = {trace["name"] for trace in scene["data"] if trace["type"] == "mesh3d"}
        assert len(elements) == len(set(tree["atomic_numbers"].values[row]) - {0})


def test_an_experiment_without_analysis_says_what_to_run(trained, tmp_path):
    directory = copy(trained[2], tmp_path / "new")
    text = text_of(write_report(directory, out=tmp_path / "a.html").read_text())
    assert f"dcmnet analyze {directory}" in text
    assert "has not been analysed" in text
    assert "How it trained" in text
    assert "How good is it" not in text


def test_results_of_another_configuration_are_told(analysed, tmp_path):
    directory = copy(analysed.directory, tmp_path / "changed")
    config = Experiment(directory).config().with_fields({"training.learning_rate": 0.125})
    config.save(Experiment(directory).config_path)
    text, command = sections.next_step(read_content(directory))
    assert "another configuration" in text
    assert command == f"dcmnet analyze {directory} --overwrite"
    assert "another configuration" not in text_of(analysed.page.read_text())


def test_without_its_store_the_training_is_told(trained, tmp_path):
    experiment = copy(trained[2], tmp_path / "moved")
    config = Experiment(experiment).config().with_fields({"data.store": "gone.zarr"})
    config.save(experiment / "config.json")
    page = write_report(experiment, out=tmp_path / "a.html")
    text = text_of(page.read_text())
    assert "gone.zarr" in text
    assert "How it trained" in text


def test_what_does_not_exist_is_refused(trained, tmp_path):
    with pytest.raises(ConfigError):
        write_report(tmp_path)
    with pytest.raises(StoreError, match="nonsense"):
        write_report(trained[2], results="nonsense", out=tmp_path / "a.html")
    with pytest.raises(StoreError, match="gone"):
        write_report(trained[2], store=tmp_path / "gone.zarr", out=tmp_path / "a.html")
    assert not list(tmp_path.iterdir())


def test_without_an_esp_its_opening_tells_of_the_field(analysed):
    content = read_content(analysed.directory)
    table = content.results.table
    assert "electric field" not in lead(content)
    without = table.assign(esp_rmse=np.nan, field_rmse=np.arange(len(table)) % 2 + 1.0)
    told = lead(replace(content, results=replace(content.results, table=without)))
    assert f"a mean error of {without.field_rmse.mean():.2f} kcal/mol/e/Å" in told


def test_without_an_esp_the_rest_is_told(tmp_path):
    with np.load(sample_sources()[0]) as raw:
        columns = {key: raw[key].copy() for key in ("id", "Z", "R", "mono", "Dxyz")}
    np.savez(tmp_path / "a.npz", **columns)
    ingest([tmp_path / "a.npz"], tmp_path / "a.zarr")
    settings = SETTINGS | {"esp_w": 0.0, "dipole_w": 1.0, "grid_points": None}
    _, _, directory = run_training("no-esp", tmp_path / "a.zarr", out=str(tmp_path), **settings)
    analyze(directory, split="all", figures=False)
    page = write_report(directory).read_text()
    assert "have no reference ESP" in page
    assert "Dipole error" in page
    assert "Against what" not in page
    assert "nan" not in text_of(page).lower().split()


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as running:
        chromium = running.chromium.launch(
            executable_path=CHROMIUM,
            # Scenes need WebGL; software draws it where there is no graphics card.
            args=["--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"],
        )
        yield chromium
        chromium.close()


def opened(browser, page, **options):
    """Opens a page; returns it with what it complained of and asked for."""
    tab = browser.new_context(**options).new_page()
    tab.set_default_timeout(120_000)
    complaints, requests = [], []
    tab.on("console", lambda m: complaints.append(m.text) if m.type == "error" else None)
    tab.on("pageerror", lambda error: complaints.append(str(error)))
    tab.on("dialog", lambda dialog: (complaints.append(dialog.message), dialog.dismiss()))
    tab.on("request", lambda request: requests.append(request.url))
    tab.goto(page.as_uri())
    return tab, complaints, requests


@needs_chromium
@pytest.mark.parametrize("width", [1280, 390])
def test_in_a_browser_every_figure_is_drawn(analysed, browser, width):
    phone = width < 600
    screen = {"viewport": {"width": width, "height": 900}, "has_touch": phone, "is_mobile": phone}
    tab, complaints, requests = opened(browser, analysed.page, **screen)
    plots = tab.locator(".plot")
    assert plots.count() == 20
    for plot in plots.all():
        plot.scroll_into_view_if_needed()
        plot.locator("canvas, svg.main-svg").first.wait_for(state="attached")
    tab.wait_for_timeout(500)
    for plot in plots.all():
        if plot.locator("canvas").count():
            drawn = plot.evaluate(
                """plot => {
                    const scene = plot._fullLayout.scene._scene.glplot;
                    scene.redraw();
                    const gl = scene.gl, size = gl.drawingBufferWidth * gl.drawingBufferHeight * 4;
                    const pixels = new Uint8Array(size);
                    gl.readPixels(0, 0, gl.drawingBufferWidth, gl.drawingBufferHeight,
                                  gl.RGBA, gl.UNSIGNED_BYTE, pixels);
                    return new Set(pixels).size;
                }"""
            )
            assert drawn > 20
        else:
            marks = plot.locator(".trace path, .trace .point, .hm image, .scatterlayer path")
            assert marks.count() > 0
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    assert "<script>alert(" in tab.inner_text("body")
    assert complaints == []
    outside = [url for url in requests if not url.startswith(("data:", "blob:"))]
    assert outside == [analysed.page.as_uri()]


@needs_chromium
def test_on_paper_and_without_scripts_the_stills_stand_for_the_charts(analysed, browser):
    tab, complaints, _ = opened(browser, analysed.page)
    assert not any(still.is_visible() for still in tab.locator(".still").all())
    tab.emulate_media(media="print")
    assert all(still.is_visible() for still in tab.locator(".still").all())
    assert not any(plot.is_visible() for plot in tab.locator(".plot").all())
    assert tab.pdf().startswith(b"%PDF")
    assert complaints == []
    tab, _, _ = opened(browser, analysed.page, java_script_enabled=False)
    assert all(still.is_visible() for still in tab.locator(".still").all())
    assert not any(plot.is_visible() for plot in tab.locator(".plot").all())
