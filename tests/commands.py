"""Commands as documents write them, run in this process."""

import sys

from dcmnet.cli import main


def run_command(words, monkeypatch):
    """Runs ``dcmnet ...``, which has to succeed."""
    monkeypatch.setattr(sys, "argv", words)
    code = 0
    try:
        main()
    except SystemExit as exit_:
        code = exit_.code
    assert not code, words
