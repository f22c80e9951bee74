"""What a run tells while it runs: a bar that says what is waited for, and what is due when."""

import io

import pytest
from rich.console import Console

from dcmnet.config import TrainingConfig
from dcmnet.experiment.metrics import MetricsFile
from dcmnet.training.epoch import Data, Trainer
from dcmnet.training.followers import Follower
from dcmnet.training.reporter import Reporter
from tests.dcmnet.experiment.test_log import record


class Epochs(Follower):
    def __init__(self):
        self.seen = []

    def on_epoch(self, record):
        self.seen.append(record.epoch)


@pytest.fixture
def told(tmp_path):
    """Returns what a reporter needs, and lets the console be read."""

    def make(terminal, **fields):
        screen, follower = io.StringIO(), Epochs()
        console = Console(file=screen, force_terminal=terminal, width=100)
        trainer = object.__new__(Trainer)  # it is asked for its configuration only
        trainer.config = TrainingConfig(num_epochs=7, **fields)
        data = Data(iter(()), 3, 1, 0.0, lambda: iter(()), lambda rows: [])
        reporter = Reporter(console, MetricsFile(tmp_path / "m.jsonl"), [follower], trainer, data)
        return reporter, screen, follower

    return make


def test_the_bar_says_that_it_compiles_until_the_first_batch(told):
    reporter, screen, _ = told(terminal=True)
    with reporter:
        assert "compiling" in screen.getvalue()
        reporter.on_batch()
        before = len(screen.getvalue())
        reporter._bar.refresh()
        after = screen.getvalue()[before:]
    assert "training" in after
    assert "1/3" in after


def test_epochs_are_told_when_due_and_kept_always(told):
    reporter, screen, follower = told(terminal=False, print_every_n_epochs=3)
    with reporter:
        for epoch in range(1, 8):
            reporter.on_epoch(record(epoch))
    shown = [line.split()[1] for line in screen.getvalue().splitlines() if line[:5] == "epoch"]
    assert shown == ["1/7", "3/7", "6/7", "7/7"]
    assert follower.seen == list(range(1, 8))
    assert "compiling" not in screen.getvalue(), "no bar in a log file"
