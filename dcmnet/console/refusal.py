"""How a command refuses: a line, an exit code, and no traceback."""

from __future__ import annotations

import sys
from collections.abc import Callable

import typer

from store_schema.problems import DcmError


def refuse_politely(run: Callable[[], None]) -> None:
    """Runs a command; a refusal is an ``Error:`` line on standard error and exit code 1.

    With ``--debug`` among the arguments, which is taken out of them, errors show their
    traceback instead. A fault of the program is not taken for a refusal.
    """
    debug = "--debug" in sys.argv
    if debug:
        sys.argv.remove("--debug")
    try:
        run()
    except (DcmError, OSError) as error:
        if debug:
            raise
        problems = error.problems if isinstance(error, DcmError) else (_in_words(error),)
        first, *others = (" ".join(str(problem).split()) for problem in problems)
        lines = [f"Error: {first}", *(f"       {other}" for other in others)]
        typer.echo("\n".join(lines), err=True)
        sys.exit(1)
    except Exception as error:
        if debug:
            raise
        what = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        typer.echo(f"Error: this should not happen: {what}. See where with --debug.", err=True)
        sys.exit(1)


def _in_words(error: OSError) -> str:
    """What the operating system has against a file, without its number."""
    places = [str(name) for name in (error.filename, error.filename2) if name is not None]
    return ": ".join([*places, error.strerror or str(error)])
