"""Mutations of what this package wrote: what an attacker, a bad disk or half a copy leaves."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import typer

from dcmnet.cli import app
from store_schema.problems import DcmError

# What takes the place of a value of JSON.
VALUES: tuple[Any, ...] = (
    *(None, True, -1, 0, 1, 2**70, 1e308, "", "x", "../../x", "\u0000", "a" * 10_000),
    *([], {}, [[]], {"a": {}}, [None] * 50),
)


def outcome(*words: object) -> str:
    """Runs a command; what it refused with, nothing where it came to its end.

    Raises:
        Exception: It ended in an error that is not meant for users.
    """
    try:
        typer.main.get_command(app)([str(word) for word in words], standalone_mode=False)
    except TimeoutError:
        raise  # an OSError, too
    except (DcmError, OSError, MemoryError, typer.Exit) as error:
        return f"{type(error).__name__}: {error}"
    return ""


@contextmanager
def limited(seconds: int, *, stoppable: bool = False) -> Iterator[None]:
    """Raises a TimeoutError in what takes longer.

    Args:
        seconds: The limit.
        stoppable: It trains, perhaps for ever now, and is asked to stop instead, as by the
            system; then it has as long again.
    """

    def stop(*_: object) -> None:
        signal.signal(signal.SIGALRM, too_long)
        signal.alarm(seconds)
        os.kill(os.getpid(), signal.SIGTERM)

    def too_long(*_: object) -> None:
        raise TimeoutError(f"more than {seconds} s")

    def terminated(*_: object) -> None:
        raise Stopped

    alarm = signal.signal(signal.SIGALRM, stop if stoppable else too_long)
    term = signal.signal(signal.SIGTERM, terminated) if stoppable else None
    signal.alarm(seconds)
    try:
        yield
    except Stopped:
        pass
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, alarm)
        if stoppable:
            signal.signal(signal.SIGTERM, term)


class Stopped(BaseException):
    """The system asked a command to stop that does not see to that itself."""


def mutate(folder: Path, rng: np.random.Generator) -> str:
    """Changes one file of a folder; returns what was done."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    file = files[rng.integers(len(files))]
    kinds: list[Callable[..., str]] = [_truncated, _flipped, _swapped, _replaced]
    if _is_json(file):
        kinds += [_other_value] * 8
    kind = kinds[rng.integers(len(kinds))]
    return f"{file.relative_to(folder)}: {kind(file, files, rng)}"


def _is_json(file: Path) -> bool:
    try:
        json.loads(file.read_bytes())
    except ValueError:
        return False
    return True


def _other_value(file: Path, _files: list[Path], rng: np.random.Generator) -> str:
    document = json.loads(file.read_bytes())
    places = list(_places(document))
    holder, key = places[rng.integers(len(places))] if places else ({}, "")
    before = holder.get(key) if isinstance(holder, dict) else holder[key]
    if rng.random() < 0.2 and isinstance(holder, dict):
        del holder[key]
        change = f"without {key!r}"
    else:
        holder[key] = VALUES[rng.integers(len(VALUES))]
        change = f"{key!r} {str(before)[:40]!r} is {str(holder[key])[:40]!r}"
    file.write_text(json.dumps(document))
    return change


def _places(document: Any) -> Any:
    """All values of a document, as what holds them and where."""
    if isinstance(document, dict):
        for key, value in document.items():
            yield document, key
            yield from _places(value)
    elif isinstance(document, list):
        for index, value in enumerate(document[:20]):
            yield document, index
            yield from _places(value)


def _truncated(file: Path, _files: list[Path], rng: np.random.Generator) -> str:
    content = file.read_bytes()
    length = int(rng.integers(len(content) + 1))
    file.write_bytes(content[:length])
    return f"cut to {length} of {len(content)} bytes"


def _flipped(file: Path, _files: list[Path], rng: np.random.Generator) -> str:
    content = bytearray(file.read_bytes())
    for _ in range(int(rng.integers(1, 9)) if content else 0):
        content[rng.integers(len(content))] ^= 1 << int(rng.integers(8))
    file.write_bytes(content)
    return "bits flipped"


def _swapped(file: Path, files: list[Path], rng: np.random.Generator) -> str:
    other = files[rng.integers(len(files))]
    ours, theirs = file.read_bytes(), other.read_bytes()
    file.write_bytes(theirs)
    other.write_bytes(ours)
    return f"swapped with {other.name} of {other.parent.name}"


def _replaced(file: Path, _files: list[Path], rng: np.random.Generator) -> str:
    kind = ("nothing", "folder", "pipe", "link to nowhere", "link to a device")[rng.integers(5)]
    file.unlink()
    if kind == "folder":
        file.mkdir()
    elif kind == "pipe":
        os.mkfifo(file)
    elif kind.startswith("link"):
        file.symlink_to("/dev/zero" if kind.endswith("device") else "/nowhere/at/all")
    return f"replaced by {kind}"


def copied(source: Path, target: Path) -> Path:
    """A copy to be changed, in the place of the last one."""
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(source, target)
    return target
