"""How a run stands, in a line: what is left of it, and whether it is stuck."""

import dataclasses
import re
from pathlib import Path

import pytest

import dcmnet.report
from dcmnet.config import TrainingConfig
from dcmnet.report.live import Status, training_status
from tests.dcmnet.experiment.test_log import record


def history(epochs, seconds=2.0, compiling=30.0):
    """Returns epochs of so many seconds, the first of which also compiled."""
    records = [record(epoch) for epoch in range(1, epochs + 1)]
    fields = {"seconds": seconds, "compile_seconds": 0.0}
    first = {"seconds": seconds + compiling, "compile_seconds": compiling}
    return [r.model_copy(update=fields if r.epoch > 1 else first) for r in records]


def status(state, epochs, silent=1.0, **fields):
    return training_status(state, TrainingConfig(num_epochs=100, **fields), history(epochs), silent)


def test_what_is_left_is_told_from_the_epochs_there_are():
    found = status("running", 10)
    assert (found.state, found.label) == ("running", "Training")
    assert found.text == "epoch 10 of 100 · 2 s each · about 3.0 min left"
    assert found.done == pytest.approx(0.1)
    assert status("running", 1).text.endswith("about 3.3 min left"), "compiling is over"


def test_a_time_limit_ends_a_run_earlier():
    found = status("running", 10, time_limit_minutes=1.5)
    assert found.text.endswith("about 40 s left")
    assert found.done == pytest.approx(20 / 60)
    assert status("running", 50, time_limit_minutes=1).text.endswith("about 0 s left")


def test_a_run_that_is_silent_for_many_of_its_epochs_is_stalled():
    assert status("running", 10, silent=59).state == "running"
    found = status("running", 10, silent=600)
    assert (found.state, found.label) == ("stalled", "Stalled")
    assert found.text == "epoch 10 of 100; none for 10.0 min, where one took 2 s"
    slow = training_status(
        "running", TrainingConfig(num_epochs=100), history(10, seconds=200.0), 600.0
    )
    assert slow.state == "running", "its epochs are longer than that"


@pytest.mark.parametrize(
    ("state", "epochs", "label", "text", "done"),
    [
        ("waiting", 0, "Not trained", "no epoch yet", 0.0),
        ("running", 0, "Training", "the first epoch, which also compiles", 0.0),
        ("finished", 100, "Finished", "100 epochs in 3.8 min, 7.1 s ago", 1.0),
        (
            "stopped",
            25,
            "Stopped",
            "after epoch 25 of 100, 7.1 s ago; dcmnet resume continues",
            0.25,
        ),
    ],
)
def test_every_state_has_its_words(state, epochs, label, text, done):
    found = status(state, epochs, silent=7.1)
    assert (found.state, found.label, found.text, found.done) == (state, label, text, done)


def test_the_script_of_the_page_reads_fields_that_the_status_has():
    script = (Path(dcmnet.report.__file__).parent / "template" / "page.js").read_text()
    shown = re.search(r"function show\(\{ (.*?) \}\)", script)[1].split(", ")
    used = re.findall(r"\bstatus\.(\w+)", script)
    assert {*shown, *used} == {field.name for field in dataclasses.fields(Status)}
