"""Processes of a run on loopback, started as a cluster starts them."""

import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager

from tests.experiments import SETTINGS

# Training and validation have other last batches than the rest; enough epochs to be cut short.
FIELDS = {**SETTINGS, "batch_size": 15, "num_epochs": 12, "save_every_n_epochs": 0}
PATIENCE = 300.0


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def train_command(store, directory, **fields):
    settings = [
        word
        for name, value in {**FIELDS, **fields}.items()
        for word in ("--set", f"{name}={value}")
    ]
    return [
        "train",
        str(store),
        "--name",
        directory.name,
        "--out",
        str(directory.parent),
        *settings,
    ]


def resume_command(directory):
    return ["resume", str(directory)]


class Group:
    """Processes that were started together; what each says is in a file."""

    def __init__(self, commands, logs, cache, **variables):
        self.logs = [logs / f"{time.monotonic_ns()}.{index}.txt" for index in range(len(commands))]
        # JAX sets it in this process when it is imported.
        inherited = {k: v for k, v in os.environ.items() if k != "TF_CPP_MIN_LOG_LEVEL"}
        common = {
            **inherited,
            "JAX_PLATFORMS": "cpu",
            "JAX_COMPILATION_CACHE_DIR": str(cache),
            "JAX_COORDINATOR_ADDRESS": f"127.0.0.1:{free_port()}",
            "JAX_NUM_PROCESSES": str(len(commands)),
            **variables,
        }
        self.processes = []
        for index, words in enumerate(commands):
            if words is None:  # one that never comes
                continue
            with self.logs[index].open("w") as log:
                self.processes.append(
                    subprocess.Popen(
                        [sys.executable, "-m", "dcmnet.cli", *words],
                        env={**common, "JAX_PROCESS_ID": str(index)},
                        stdout=log,
                        stderr=log,
                    )
                )

    def said(self):
        """Returns the output of each process."""
        return [log.read_text() if log.exists() else "" for log in self.logs]

    def errors(self):
        """Returns the `Error:` lines of each process."""
        return [
            [line for line in text.splitlines() if line.startswith("Error:")]
            for text in self.said()
        ]

    def wait_for(self, happened):
        """Waits until something happened, while all processes are at work."""
        end = time.monotonic() + PATIENCE
        while not happened():
            assert time.monotonic() < end, self.said()
            assert all(process.poll() is None for process in self.processes), self.said()
            time.sleep(0.02)

    def codes(self, patience=PATIENCE):
        """Waits for the end of all; returns their exit codes."""
        return [process.wait(patience) for process in self.processes]

    def send(self, number, *indices):
        for index in indices:
            os.kill(self.processes[index].pid, number)

    def end(self):
        for process in self.processes:
            if process.poll() is None:
                process.send_signal(signal.SIGKILL)
                process.wait()


class Launcher:
    """Starts groups for a test, and sees to it that none is left."""

    def __init__(self, logs, cache, stack):
        self._logs, self._cache, self._stack = logs, cache, stack

    def __call__(self, words, count=2, **variables):
        commands = words if isinstance(words[0], list) or words[0] is None else [words] * count
        group = Group(commands, self._logs, self._cache, **variables)
        self._stack.callback(group.end)
        return group


@contextmanager
def launching(logs, cache):
    with ExitStack() as stack:
        yield Launcher(logs, cache, stack)


def lines_of(directory):
    path = directory / "metrics.jsonl"
    return path.read_text().count("\n") if path.exists() else 0
