"""How processes come together for a run, and how one leaves when another is lost.

JAX ends a process when its coordinator is gone or another one gives no sign of life,
by ``abort``. That is turned into a line and an exit code that a script can go by.
"""

from __future__ import annotations

import atexit
import ctypes
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import jax

from dcmnet.model.compilation import set_up_compilation
from dcmnet.training.processes.agreement import Processes
from dcmnet.training.processes.launcher import COUNT, Place, find_place
from store_schema.problems import TrainingError

# What a process exits with when another one of its run is gone: EX_UNAVAILABLE of
# sysexits.h. The last checkpoint is whole, and 'dcmnet resume' continues.
LOST: Final = 69
# How long a process waits for the others to be there, in seconds; containers take minutes.
CONNECT_SECONDS: Final = "DCMNET_CONNECT_SECONDS"
_CONNECT_SECONDS: Final = 300.0
# Longer than a file system or a suspended node holds a process up; a process that dies is
# known at once, by its connections.
_HEARTBEAT_SECONDS: Final = 180
# What errors of collectives say when the other end is gone.
_LOSS: Final = ("Gloo", "NCCL", "UNAVAILABLE", "DEADLINE_EXCEEDED", "CoordinationService")

_reported = threading.Lock()


@contextmanager
def joined() -> Iterator[Processes]:
    """Joins the processes of this run, where the environment names any.

    Yields:
        The processes; this one alone where there are no others.

    Raises:
        ConfigError: The environment says what cannot be.
        TrainingError: The others cannot be reached.
        SystemExit: Another process was lost; the code is ``LOST``.
    """
    set_up_compilation()  # before the first look at the devices, when XLA reads its flags
    place = find_place()
    if place is not None and not jax.distributed.is_initialized():
        _connect(place)
    processes = Processes()
    if processes.count == 1:
        yield processes
        return
    try:
        yield processes
    except (jax.errors.JaxRuntimeError, ValueError) as error:
        if not any(word in str(error) for word in _LOSS):
            _leave_at_once(1)
            raise
        _tell_loss()
        _leave_at_once(LOST)
        sys.exit(LOST)
    except BaseException as error:
        # Others know of what was agreed, and of SIGTERM. Of anything else they learn when
        # this process is gone, so it does not wait for them at its end.
        if error is not processes.agreed and not isinstance(error, SystemExit):
            _leave_at_once(1)
        raise


def _connect(place: Place) -> None:
    seconds = float(os.environ.get(CONNECT_SECONDS, _CONNECT_SECONDS))
    # JAX would end the process without a word that helps; this is always earlier.
    limit = threading.Timer(seconds, _give_up, (place, seconds))
    limit.daemon = True
    limit.start()
    try:
        jax.distributed.initialize(
            place.coordinator,
            place.count,
            place.index,
            cluster_detection_method=place.launcher,
            initialization_timeout=2 * int(seconds) + 2,
            heartbeat_timeout_seconds=_HEARTBEAT_SECONDS,
        )
    except (RuntimeError, ValueError) as error:
        raise _unreachable(place, " ".join(str(error).split())[:200]) from error
    finally:
        limit.cancel()
    ctypes.CDLL(None).signal(signal.SIGABRT, _on_abort)


def _unreachable(place: Place, what: str) -> TrainingError:
    return TrainingError.of(
        f"process {place.index} of {place.count}",
        wrong=f"not all processes met at {place.coordinator or 'the first node'}: {what}",
        consequence="nothing was started",
        remedy=f"Start all of them, let them reach that address, or set {COUNT}=1 to train alone",
    )


def _give_up(place: Place, seconds: float) -> None:
    _say(f"Error: {_unreachable(place, f'{seconds:g} s have passed')}")
    os._exit(1)


@ctypes.CFUNCTYPE(None, ctypes.c_int)
def _on_abort(_: int) -> None:
    _tell_loss()
    os._exit(LOST)


def _tell_loss() -> None:
    if _reported.acquire(blocking=False):
        _say(
            "Error: another process of this run was lost, so this one stopped; the last "
            "checkpoint is whole; continue with 'dcmnet resume'."
        )


def _say(line: str) -> None:
    # Python's own buffers may be in use by the thread that is waited for.
    os.write(2, (line + "\n").encode())


def _leave_at_once(code: int) -> None:
    """Lets the interpreter end without waiting for the other processes, as JAX would."""

    def leave() -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)

    atexit.register(leave)
