"""The claim of a writer on a store of objects: put only if it is not there, deleted at the end.

What a killed writer leaves is taken over only where it is certain that its process has
ended: on the machine that it ran on. No clock can show that for another machine.
"""

from __future__ import annotations

import json
import os
import socket
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import obstore
from obstore.exceptions import AlreadyExistsError, PreconditionError

from pipeline.store.bucket_requests import Objects, remove, retried
from pipeline.store.location import ObjectLocation, unreachable_explained
from store_schema.problems import StoreError

CLAIM: Final = ".writer"
_POLL_SECONDS: Final = 1.0
_held: set[str] = set()  # tokens of this process


@contextmanager
def claimed(place: ObjectLocation, objects: Objects, *, wait: bool) -> Iterator[None]:
    """Keeps other writers out.

    Args:
        place: The store.
        objects: Its client.
        wait: Wait for another writer, saying so, instead of refusing.

    Raises:
        StoreError: Another writer holds the store and ``wait`` is false; there is no such
            bucket; or it cannot be reached.
    """
    mine: dict[str, Any] = {
        "host": socket.gethostname(),
        "process": os.getpid(),
        "started": _started(os.getpid()),
        "system": _system(),
        "since": datetime.now(UTC).isoformat(timespec="seconds"),
        "token": uuid4().hex,
    }
    _held.add(mine["token"])
    try:
        _obtain(place, objects, mine, wait=wait)
        try:
            yield
        finally:
            with unreachable_explained(place):
                remove(objects, CLAIM)
    finally:
        _held.remove(mine["token"])


def _obtain(place: ObjectLocation, objects: Objects, mine: dict[str, Any], *, wait: bool) -> None:
    warned = False
    while (other := _other(place, objects, mine)) is not None:
        words = f"process {other['process']} on {other['host']} since {other['since']}"
        remedy = f"if it was killed, remove {place}/{CLAIM}"
        if not wait:
            raise StoreError.of(
                str(place),
                wrong=f"another process is writing here: {words}",
                consequence="nothing was written",
                remedy=f"Try again when it has ended; {remedy}",
            )
        if not warned:
            warnings.warn(f"{place}: waiting for {words}; {remedy}", stacklevel=2)
            warned = True
        time.sleep(_POLL_SECONDS)


def _other(place: ObjectLocation, objects: Objects, mine: dict[str, Any]) -> dict[str, Any] | None:
    """Puts this writer's claim; returns that of another where there is one."""
    content = json.dumps(mine).encode()
    with unreachable_explained(place):
        try:
            retried(obstore.put, objects, CLAIM, content, mode="create")
            return None
        except AlreadyExistsError:
            pass
        except FileNotFoundError:
            raise _no_bucket(place) from None
        try:
            answer = retried(obstore.get, objects, CLAIM)
            other = json.loads(bytes(answer.bytes()))
        except FileNotFoundError:  # it went in between
            return _other(place, objects, mine)
        if other == mine:  # only the answer to the put was lost
            return None
        if not _has_ended(other):
            return dict(other)
        try:
            retried(obstore.put, objects, CLAIM, content, mode=version(answer.meta))
        except PreconditionError:  # another was quicker, or only the answer was lost
            return _other(place, objects, mine)
        return None


def version(meta: Any) -> dict[str, Any]:
    """Returns the condition that an object is still what was read or put."""
    known = {name: meta.get(name) for name in ("e_tag", "version")}
    return {name: value for name, value in known.items() if value is not None}


def _has_ended(claim: dict[str, Any]) -> bool:
    """Whether a claim is of here, and nothing holds it any more."""
    system = _system()
    if system is None or claim["system"] != system:
        return False
    if _started(claim["process"]) != claim["started"]:
        return True
    return claim["process"] == os.getpid() and claim["token"] not in _held


def _system() -> str | None:
    """What a process number belongs to: a boot of a machine and a space of process numbers."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:  # not Linux
        return None


def _started(process: int) -> str | None:
    """When a process of this machine began, in ticks since its boot."""
    try:
        # After the name, which may hold blanks and parentheses.
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[19]
    except OSError:
        return None


def _no_bucket(place: ObjectLocation) -> StoreError:
    return StoreError.of(
        str(place),
        wrong="there is no bucket of this name",
        consequence="nothing was written",
        remedy="Make the bucket, or name another",
    )
