"""Calculations in processes, one per core; one that dies takes nothing else with it."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from types import ModuleType

from pipeline.reference.calculation import CalculationError, Method
from pipeline.reference.parts import Task, calculate

# Tasks that wait for each process, so that none is idle.
_AHEAD = 4
_WATCH_SECONDS = 1.0
# Libraries would take all cores for each process.
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def calculated(tasks: Sequence[Task], method: Method, workers: int) -> Iterator[tuple[Task, str]]:
    """Calculates molecules and keeps each in a file of its own.

    Args:
        tasks: What is to be calculated.
        method: The level of theory.
        workers: Processes.

    Yields:
        Each task as it ends, with the reason if there is no answer, else no text.
    """
    waiting = list(tasks[::-1])
    while waiting:
        alone: list[Task] = []
        yield from _until_broken(waiting, alone, method, workers)
        # Whoever was at work when a process died may have killed it: each tries once more alone.
        for task in alone:
            left = [task]
            again: list[Task] = []
            yield from _until_broken(left, again, method, 1)
            for dead in again:
                yield dead, "its process was killed, perhaps as memory ran out"


def _until_broken(
    waiting: list[Task], alone: list[Task], method: Method, workers: int
) -> Iterator[tuple[Task, str]]:
    """Works on tasks until none waits, or a process dies; ``alone`` takes those under way then."""
    pending: dict[Future[None], Task] = {}
    with _pool(workers) as pool:
        while waiting or pending:
            while waiting and len(pending) < _AHEAD * workers:
                task = waiting.pop()
                with _no_script():
                    pending[pool.submit(calculate, task, method)] = task
            done, _ = wait(pending, return_when=FIRST_COMPLETED)
            for future in done:
                task = pending.pop(future)
                try:
                    future.result()
                except BrokenProcessPool:
                    alone += [task, *pending.values()]
                    return
                except CalculationError as error:
                    yield task, str(error)
                else:
                    yield task, ""


@contextmanager
def _pool(workers: int) -> Iterator[ProcessPoolExecutor]:
    """A pool whose processes have a thread each, and end with this one."""
    before = {name: os.environ.get(name) for name in _THREADS}
    os.environ.update(dict.fromkeys(_THREADS, "1"))
    pool = ProcessPoolExecutor(
        workers,
        multiprocessing.get_context("spawn"),
        initializer=_depend_on,
        initargs=(os.getpid(),),
    )
    try:
        yield pool
    except BaseException:  # a signal: what is under way is done again another time
        for process in multiprocessing.active_children():
            process.kill()
        raise
    finally:
        pool.shutdown(cancel_futures=True)
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextmanager
def _no_script() -> Iterator[None]:
    """Processes that start now do not run the user's script again.

    It would start calculations of its own where it lacks ``if __name__ == "__main__"``.
    """
    script = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = script


def _depend_on(parent: int) -> None:
    """Leaves Ctrl-C to the parent, and ends when that has ended, however it did."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_WATCH_SECONDS)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
