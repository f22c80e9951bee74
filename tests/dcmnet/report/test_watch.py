"""A report kept up to date: as often as epochs end, until training has, to this machine only."""

import json
import signal
import threading
import time
import urllib.error
import urllib.request
from contextlib import contextmanager

import pytest
import typer

from dcmnet.cli import app
from dcmnet.experiment.directory import Experiment
from dcmnet.report import command, page, watch
from dcmnet.report.content import training_state
from dcmnet.report.live import Status
from dcmnet.report.serving import served
from dcmnet.report.watch import Live
from pipeline.files import exclusive
from store_schema.problems import ConfigError
from tests.experiments import copy


@pytest.fixture
def experiment(trained, tmp_path):
    return copy(trained[2], tmp_path / "trial")


@pytest.fixture(autouse=True)
def quick_pages(monkeypatch):
    """Pages without charts; those have tests of their own."""
    monkeypatch.setattr(page, "_panels", lambda content: {})


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


def ask(url, **headers):
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers)) as answer:
        return answer.read(), answer.headers["Content-Type"]


def test_it_is_served_on_loopback_and_nothing_else_is(tmp_path):
    out, found = tmp_path / "page.html", []
    (tmp_path / "secret.txt").write_text("secret")
    status = Status("running", "Training", "epoch 1 of 3", 0.5, version=7)
    with served(out, 0, lambda: found[0] if found else None) as url:
        assert url.startswith("http://127.0.0.1:")
        for path in ("", "live"):
            with pytest.raises(urllib.error.HTTPError, match="404"):  # not written yet
                ask(url + path)
        out.write_text("<p>page</p>")
        found.append(status)
        assert ask(url) == (b"<p>page</p>", "text/html; charset=utf-8")
        text, kind = ask(url + "live")
        assert (Status(**json.loads(text)), kind) == (status, "application/json; charset=utf-8")
        for path in ("secret.txt", "../secret.txt", "page.html", "%2e%2e/secret.txt"):
            with pytest.raises(urllib.error.HTTPError, match="404"):
                ask(url + path)
        port = int(url.rsplit(":", 1)[1].strip("/"))
        assert ask(url, Host=f"localhost:{port + 1}")[0] == b"<p>page</p>"  # through a tunnel
        with pytest.raises(urllib.error.HTTPError, match="404"):  # a name made to point here
            ask(url, Host=f"example.org:{port}")
        with pytest.raises(ConfigError, match="another port"), served(out, port, list):
            pass
    with pytest.raises(urllib.error.URLError):
        ask(url)


def until(happened):
    end = time.monotonic() + 120
    while not happened():
        assert time.monotonic() < end
        time.sleep(0.02)


@contextmanager
def watched(experiment, out):
    """Watches an experiment as a page that is served does; yields what its status is."""
    live, stop = Live(), threading.Event()
    fields = {"out": out, "every": 0.05, "live": live, "stop": stop}
    thread = threading.Thread(target=watch, args=[experiment], kwargs=fields)
    thread.start()
    try:
        until(lambda: live.status is not None)
        yield live
    finally:
        stop.set()
        thread.join()


def test_a_page_that_is_served_is_kept_after_training_and_sees_what_comes(experiment, tmp_path):
    metrics, later = Experiment(experiment).metrics_path, last_lines(experiment, keep=1)
    out = tmp_path / "page.html"
    with watched(experiment, out) as live:
        assert (live.status.state, live.status.version) == ("stopped", 1)
        assert "data-refresh" in out.read_text()
        assert "connect-src 'self'" in out.read_text()
        with exclusive(experiment, wait=False):
            until(lambda: live.status.state == "running")
            with metrics.open("a") as file:
                file.writelines(later)
            until(lambda: "epoch 3 of 3" in live.status.text)
        until(lambda: live.status.state == "finished")
        before = live.status.version
        analysis = Experiment(experiment).analysis_path / "best_analysis.json"
        analysis.parent.mkdir(exist_ok=True)
        analysis.write_text("{}")
        until(lambda: live.status.version == before + 1)
    assert "data-refresh" not in out.read_text(), "the page that stays asks for nothing"
    assert "connect-src" not in out.read_text()


def test_what_cannot_be_meant_is_refused(experiment, tmp_path):
    with pytest.raises(ConfigError, match="every"):
        watch(experiment, every=0.0)
    with pytest.raises(ConfigError, match="--watch"):
        run_command("report", experiment, "--port", 0)
    with pytest.raises(ConfigError), served(tmp_path / "a.html", 70_000, list):
        pass


@pytest.mark.parametrize("options", [[], ["--watch"]], ids=str)
def test_the_command_tells_where_the_page_is(experiment, tmp_path, capsys, options):
    out = tmp_path / "page[1].html"  # no markup
    run_command("report", experiment, "--out", out, *options)
    assert str(out) in capsys.readouterr().out
    assert "trained to the end" in out.read_text()


@pytest.fixture
def interruptible():
    """Ctrl-C works, also where the tests were started from a shell that ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_the_command_serves_until_it_is_interrupted(experiment, tmp_path, capsys, monkeypatch):
    seen = []

    @contextmanager
    def visited(page, port, status):
        """Serves as the command does, to a visitor who then presses Ctrl-C."""
        with served(page, port, status) as url:

            def visit():
                until(lambda: status() is not None)
                seen.append(json.loads(ask(url + "live")[0])["label"])
                signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

            visitor = threading.Thread(target=visit)
            visitor.start()
            yield url
            visitor.join()

    monkeypatch.setattr(command, "served", visited)
    run_command("report", experiment, "--out", tmp_path / "a.html", "--watch", "--port", 0)
    told = capsys.readouterr().out
    assert "http://127.0.0.1:" in told
    assert "Stopped watching" in told
    assert seen == ["Finished"]


def run_command(*words):
    typer.main.get_command(app)(list(map(str, words)), standalone_mode=False)
