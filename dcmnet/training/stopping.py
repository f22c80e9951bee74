"""SIGTERM, a cluster's warning, as a request to stop after the update under way."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from dcmnet.training.processes.agreement import Processes

# What a run that SIGTERM stopped exits with: EX_TEMPFAIL of sysexits.h, "try again later".
# Unlike 143, which a shell reports of a process that the signal killed, it says that
# everything is saved and that 'dcmnet resume' continues.
STOPPED: Final = 75


@contextmanager
def stop_on_sigterm(processes: Processes | None = None) -> Iterator[Callable[[], bool]]:
    """Turns SIGTERM into a request to stop, of all processes where one got it.

    Yields:
        A function that says whether a stop was requested. Only the main thread can
        listen to signals; in another one nothing is changed.
    """
    if processes is not None and processes.count > 1:
        yield processes.stop_asked
        return
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked.is_set
        return
    before = signal.signal(signal.SIGTERM, lambda *_: asked.set())
    try:
        yield asked.is_set
    finally:
        signal.signal(signal.SIGTERM, before)
