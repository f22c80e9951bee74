"""How a command refuses: a line, an exit code, and no traceback."""

from __future__ import annotations

import errno
import logging
import os
import sys
from collections.abc import Callable
from typing import NoReturn

import typer

from store_schema.problems import DcmError

_FULL = (errno.ENOSPC, errno.EDQUOT)


def refuse_politely(run: Callable[[], None]) -> None:
    """Runs a command; a refusal is an ``Error:`` line on standard error and exit code 1.

    With ``--debug`` among the arguments, which is taken out of them, errors show their
    traceback and libraries their logs. A fault of the program is not taken for a refusal.
    """
    debug = "--debug" in sys.argv
    if debug:
        sys.argv.remove("--debug")
    else:
        logging.disable(logging.CRITICAL)  # of libraries; this package prints or raises
        # Reads that a library gave up end in destructors, which nobody can act on.
        sys.unraisablehook = lambda _: None
    # Figures are written to files; a backend that the user's windows have is not needed.
    os.environ["MPLBACKEND"] = "agg"
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # not where tests capture
            stream.reconfigure(errors="replace")  # a terminal that lacks a letter shows another
    try:
        run()
        sys.stdout.flush()
    except BrokenPipeError:  # whoever read the output has enough of it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except (DcmError, OSError, MemoryError) as error:
        if debug:
            raise
        problems = error.problems if isinstance(error, DcmError) else (_in_words(error),)
        first, *others = (" ".join(str(problem).split()) for problem in problems)
        _end([f"Error: {first}", *(f"       {other}" for other in others)])
    except Exception as error:
        if debug:
            raise
        what = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        _end([f"Error: this should not happen: {what}. See where with --debug."])


def _end(lines: list[str]) -> NoReturn:
    typer.echo("\n".join(lines), err=True)
    sys.exit(1)


def _in_words(error: OSError | MemoryError) -> str:
    """What the operating system has against a file, without its number."""
    if isinstance(error, MemoryError):
        return f"not enough memory: {error or 'the system has none left'}. Ask for less at once."
    places = [str(name) for name in (error.filename, error.filename2) if name is not None]
    text = ": ".join([*places, error.strerror or str(error)])
    if error.errno in _FULL:
        text += "; what was there before is whole. Make room, and give the command again."
    return text
