"""A report kept up to date: as often as epochs end, until training has, to this machine only."""

import threading
import urllib.error
import urllib.request

import pytest
import typer

from dcmnet.cli import app
from dcmnet.experiment import Experiment
from dcmnet.report import page, watch
from dcmnet.report.story import training_state
from dcmnet.report.watch import served
from pipeline.zarr_metadata import exclusive
from store_schema.problems import ConfigError
from tests.experiments import copy


@pytest.fixture
def experiment(trained, tmp_path):
    return copy(trained[2], tmp_path / "trial")


@pytest.fixture(autouse=True)
def quick_pages(monkeypatch):
    """Pages without charts; those have tests of their own."""
    monkeypatch.setattr(page, "_exhibits", lambda story: {})


def last_lines(experiment, keep):
    path = Experiment(experiment).metrics_path
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:keep]))
    return lines[keep:]


def test_the_page_follows_training_to_its_end(experiment, tmp_path):
    """A run holds the lock of its directory; each epoch is a line of its metrics."""
    metrics, later = Experiment(experiment).metrics_path, last_lines(experiment, keep=1)
    out, seen = tmp_path / "page.html", []
    lock = exclusive(experiment, wait=False)
    lock.__enter__()

    def next_epoch(path, state, epochs):
        seen.append((state, epochs, "data-refresh" in path.read_text()))
        if later:
            with metrics.open("a") as file:
                file.write(later.pop(0))
        elif state == "running":
            lock.__exit__(None, None, None)

    assert watch(experiment, out=out, every=0.05, on_page=next_epoch) == out
    assert seen == [("running", n, True) for n in (1, 2, 3)] + [("finished", 3, False)]
    assert "trained to the end" in out.read_text()
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["page.html"]


def test_without_a_run_the_page_is_written_once(experiment, tmp_path):
    seen = []
    watch(experiment, out=tmp_path / "a.html", on_page=lambda *told: seen.append(told[1:]))
    assert seen == [("finished", 3)]


def test_a_watch_can_be_stopped(experiment, tmp_path):
    stop, page = threading.Event(), tmp_path / "a.html"
    with exclusive(experiment, wait=False):  # as if it trained for ever
        assert watch(experiment, out=page, on_page=lambda *_: stop.set(), stop=stop) == page


@pytest.mark.parametrize(("epochs", "state"), [(0, "waiting"), (2, "stopped"), (3, "finished")])
def test_the_state_of_training_is_told(experiment, epochs, state):
    last_lines(experiment, keep=epochs)
    source = Experiment(experiment)
    assert training_state(source, source.config(), source.history()) == state
    with exclusive(experiment, wait=False):
        assert training_state(source, source.config(), source.history()) == "running"


def test_it_is_served_on_loopback_and_nothing_else_is(experiment, tmp_path):
    out = tmp_path / "page.html"
    (tmp_path / "secret.txt").write_text("secret")
    with served(out, 0) as url:
        assert url.startswith("http://127.0.0.1:")
        with pytest.raises(urllib.error.HTTPError, match="404"):  # not written yet
            urllib.request.urlopen(url)
        watch(experiment, out=out)
        with urllib.request.urlopen(url) as answer:
            assert answer.read() == out.read_bytes()
            assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
        for path in ("secret.txt", "../secret.txt", "page.html", "%2e%2e/secret.txt"):
            with pytest.raises(urllib.error.HTTPError, match="404"):
                urllib.request.urlopen(url + path)
        port = int(url.rsplit(":", 1)[1].strip("/"))
        with pytest.raises(ConfigError, match="another port"), served(out, port):
            pass
    with pytest.raises(urllib.error.URLError):
        urllib.request.urlopen(url)


def test_what_cannot_be_meant_is_refused(experiment, tmp_path):
    with pytest.raises(ConfigError, match="every"):
        watch(experiment, every=0.0)
    with pytest.raises(ConfigError, match="--watch"):
        run_command("report", experiment, "--port", 0)
    with pytest.raises(ConfigError), served(tmp_path / "a.html", 70_000):
        pass


@pytest.mark.parametrize("options", [[], ["--watch", "--port", 0]], ids=str)
def test_the_command_tells_where_the_page_is(experiment, tmp_path, capsys, options):
    out = tmp_path / "page[1].html"  # no markup
    run_command("report", experiment, "--out", out, *options)
    told = capsys.readouterr().out
    assert str(out) in told
    assert ("http://127.0.0.1:" in told) == bool(options)
    assert "trained to the end" in out.read_text()


def run_command(*words):
    typer.main.get_command(app)(list(map(str, words)), standalone_mode=False)
