"""``python -m dcmnet.sweep FOLDER``: one more process for the sweep that is in a folder."""

from __future__ import annotations

import sys
from pathlib import Path

from rich.console import Console

from dcmnet.console.refusal import refuse_politely
from dcmnet.sweep.space import load_space
from dcmnet.sweep.worker import SPACE_NAME, work

_INTERRUPTED = 130  # what shells report of Ctrl-C


def _main() -> None:
    folder = Path(sys.argv[1])
    try:
        work(load_space(folder / SPACE_NAME), Console())
    except KeyboardInterrupt:
        sys.exit(_INTERRUPTED)


if __name__ == "__main__":
    refuse_politely(_main)
