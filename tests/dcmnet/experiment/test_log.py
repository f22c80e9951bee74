"""``metrics.jsonl``: one line per epoch whatever happens in between; the epoch table."""

import io
import json
import math

import pytest
from rich.console import Console

from dcmnet.experiment.metrics import _ROWS, EpochRecord, MetricsFile, print_epoch


def record(epoch, **changes):
    fields = {
        "epoch": epoch,
        "train": {"loss": 2.0 / epoch, "esp_rmse": 1.0 / epoch, "monopole_mae": 0.1},
        "valid": {"loss": 3.0 / epoch, "esp_rmse": 1.5 / epoch},
        "seconds": 1.5,
        "molecules_per_second": 1234.5,
        "input_wait_fraction": 0.01,
        "padding_waste": 0.1,
        "compile_seconds": 0.5,
        "learning_rate": 1e-3,
        "gradient_norm": 0.7,
        "updates": 10 * epoch,
        "best": epoch == 1,
    }
    return EpochRecord(**{**fields, **changes})


@pytest.fixture
def metrics(tmp_path):
    file = MetricsFile(tmp_path / "metrics.jsonl")
    for epoch in (1, 2, 3):
        file.append(record(epoch))
    return file


def test_what_is_written_is_read(metrics):
    assert metrics.read() == [record(1), record(2), record(3)]
    lines = metrics.path.read_text().splitlines()
    assert [json.loads(line)["epoch"] for line in lines] == [1, 2, 3]


def test_a_resumed_run_has_one_line_an_epoch(metrics):
    """The run died after epoch 3's line and before its checkpoint: epoch 3 runs again."""
    metrics.keep_until(2)
    metrics.append(record(3, seconds=9.0))
    assert [r.epoch for r in metrics.read()] == [1, 2, 3]
    assert metrics.read()[-1].seconds == 9.0


@pytest.mark.parametrize("kept", [1, 20, 150])
def test_a_line_cut_short_is_dropped_and_the_run_goes_on(metrics, kept):
    whole = metrics.path.read_text()
    last = whole.splitlines(keepends=True)[-1]
    metrics.path.write_text(whole.removesuffix(last) + last[:kept])
    assert [r.epoch for r in metrics.read()] == [1, 2]
    metrics.keep_until(2)
    metrics.append(record(3))
    assert metrics.read() == [record(1), record(2), record(3)]


def test_a_new_run_starts_empty(tmp_path):
    metrics = MetricsFile(tmp_path / "metrics.jsonl")
    assert metrics.read() == []
    metrics.keep_until(0)
    assert metrics.read() == []


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_numbers_that_are_not_finite_survive(tmp_path, value):
    """A validation that diverged must not make the experiment unreadable."""
    metrics = MetricsFile(tmp_path / "metrics.jsonl")
    metrics.append(record(1, valid={"loss": value}, gradient_norm=value))
    read = metrics.read()[0]
    assert str(read.valid["loss"]) == str(value)
    assert str(read.gradient_norm) == str(value)
    json.loads(metrics.path.read_text(), parse_constant=pytest.fail)  # still JSON to everyone


def test_table_shows_train_valid_and_their_difference():
    console = Console(width=140, record=True, file=io.StringIO())
    print_epoch(record(2), 7, console)
    text = console.export_text()
    assert "epoch 2/7" in text
    row = next(line for line in text.splitlines() if "ESP RMSE" in line)
    assert [cell for cell in row.replace("│", " ").split() if cell[0] in "+-0123456789"] == [
        "0.5",
        "0.75",
        "0.25",
        "+50.0",
    ]
    assert "dipole" not in text, "what was not computed is not shown"


def test_a_table_of_everything_fits_a_terminal():
    console = Console(width=80, record=True, file=io.StringIO())
    train = {name: 0.0123456 for name, _, _ in _ROWS}
    valid = {name: -12345.678 for name, _, _ in _ROWS}
    print_epoch(record(2, train=train, valid=valid), 7, console)
    text = console.export_text()
    assert "…" not in text
    assert all(f"{label} " in text and unit in text for _, label, unit in _ROWS)
    assert text.count("-1.235e+04") == 2 * len(_ROWS)
