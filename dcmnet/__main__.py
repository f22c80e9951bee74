"""The command line as a program: ``dcmnet``, or ``python -m dcmnet``."""

from __future__ import annotations

import gc
import signal


def main() -> None:
    """Runs the command line."""
    # Nothing is to be cleaned up yet: Ctrl-C ends the imports without a traceback.
    interrupt = signal.signal(signal.SIGINT, signal.SIG_DFL)
    from dcmnet.cli import main as run

    signal.signal(signal.SIGINT, interrupt)
    try:
        run()
    finally:
        # The memory goes with the program; to look for cycles in it first took two seconds.
        gc.freeze()


if __name__ == "__main__":
    main()
