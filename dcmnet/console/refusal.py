"""How a command refuses: a line, an exit code, and no traceback."""

from __future__ import annotations

import errno
import logging
import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

import typer

from store_schema.problems import DcmError

_FULL = (errno.ENOSPC, errno.EDQUOT)
# In seconds: when a signal that came in an import or a destructor is sent again.
_SOON = 0.02
# Exit codes of a command that a signal ended, as shells count them.
ENDED = {130: "Interrupted", 143: "Stopped by SIGTERM"}
_RESUMED = {
    "train": " Continue with 'dcmnet resume' and the experiment's directory.",
    "resume": " Continue with the same command.",
    "reference": " Continue with the same command.",
}
_PYTHONS_FORMAT = warnings.formatwarning


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
        sys.unraisablehook = _unraisable
        # Of libraries; what this package warns of is a UserWarning of its own modules.
        warnings.filterwarnings("ignore", category=RuntimeWarning)
        warnings.filterwarnings("ignore", module=r"xarray|zarr|orbax|jax|numcodecs|numpy")
        warnings.formatwarning = _as_a_sentence
    # Figures are written to files; a backend that the user's windows have is not needed.
    os.environ["MPLBACKEND"] = "agg"
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # not where tests capture
            stream.reconfigure(errors="replace")  # a terminal that lacks a letter shows another
    if not _is_somewhere():
        _end(["Error: the current folder is gone. Change to one that is there."])
    try:
        with _terminable():
            _run_to_the_signal(run)
        sys.stdout.flush()
    except SystemExit as ending:
        if ending.code in ENDED:
            what = "nothing is half written, and what was there before is whole"
            how = _RESUMED.get(next(iter(sys.argv[1:]), ""), "")
            typer.echo(f"{ENDED[ending.code]}: {what}.{how}", err=True)
        raise
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


def _as_a_sentence(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    line: str | None = None,
) -> str:
    """Formats what the package warns of as a sentence, and other warnings as Python does."""
    if category is UserWarning:
        return f"Warning: {message}\n"
    return _PYTHONS_FORMAT(message, category, filename, lineno, line)


def _is_somewhere() -> bool:
    try:
        os.getcwd()
    except FileNotFoundError:
        return False
    return True


@contextmanager
def _terminable() -> Iterator[None]:
    """Ends a command that SIGTERM stops as an exit does, so that it takes away what is unfinished.

    A training run asks for the signal itself, and saves.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, _terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _terminate(number: int, frame: FrameType | None) -> None:
    """Ends the command; while something is imported, as soon as it is.

    An exception that is raised while a C extension is imported can crash it.
    """
    while frame is not None and frame.f_code.co_filename != __file__:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            again = threading.Timer(_SOON, os.kill, (os.getpid(), number))
            again.daemon = True
            again.start()
            return
        frame = frame.f_back
    sys.exit(128 + number)


def _run_to_the_signal(run: Callable[[], None]) -> None:
    """Runs a command; an error that only wraps the exit of a signal ends it as that exit.

    A signal that arrives while a C extension is imported comes out of it as an ``ImportError``.

    Raises:
        SystemExit: A signal stopped the command.
    """
    try:
        run()
    except Exception as error:
        behind: BaseException | None = error
        while behind is not None:
            if isinstance(behind, KeyboardInterrupt):
                raise SystemExit(128 + signal.SIGINT) from error
            if isinstance(behind, SystemExit):
                raise SystemExit(behind.code) from error
            behind = behind.__cause__ or behind.__context__
        raise


def _unraisable(ignored: sys.UnraisableHookArgs) -> None:
    """Says nothing of reads that a library gave up, which end in destructors.

    A signal that arrived in one of them is sent again, or it would be lost.
    """
    for kind, number in ((KeyboardInterrupt, signal.SIGINT), (SystemExit, signal.SIGTERM)):
        if issubclass(ignored.exc_type, kind):  # once the destructor is left
            threading.Timer(_SOON, os.kill, (os.getpid(), number)).start()


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
        text += "; what was there before is whole. Make room, and try again."
    return text
