"""The command line as a program: ``dcmnet``, or ``python -m dcmnet``."""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import sys


def main() -> None:
    """Runs the command line."""
    # Imports and tracing make many small objects and few cycles: at Python's own threshold of
    # 700 objects the search for cycles is a sixth of a start.
    gc.set_threshold(100_000, 50, 50)
    # Nothing is to be cleaned up yet: Ctrl-C ends the imports without a traceback.
    interrupt = signal.signal(signal.SIGINT, signal.SIG_DFL)
    from dcmnet.cli import main as run
    from dcmnet.console.refusal import ENDED

    signal.signal(signal.SIGINT, interrupt)
    try:
        run()
    except SystemExit as ending:
        if ending.code in ENDED:  # everything is put away
            # A thread that is still in XLA or TensorStore can crash a Python that shuts down.
            for stream in (sys.stdout, sys.stderr):
                with contextlib.suppress(OSError):  # nobody reads it any more
                    stream.flush()
            os._exit(ending.code)
        raise
    finally:
        # The memory goes with the program; to look for cycles in it first took two seconds.
        gc.freeze()


if __name__ == "__main__":
    main()
