"""Where this process stands among those of a run, as the launcher's environment says.

Three launchers are understood, in this order: the variables ``JAX_NUM_PROCESSES``,
``JAX_PROCESS_ID`` and ``JAX_COORDINATOR_ADDRESS``, a Slurm step, and Open MPI. A
process that none of them started as one of several trains alone.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from store_schema.problems import ConfigError

COUNT: Final = "JAX_NUM_PROCESSES"
INDEX: Final = "JAX_PROCESS_ID"
# Read by JAX itself, too.
COORDINATOR: Final = "JAX_COORDINATOR_ADDRESS"


@dataclass(frozen=True)
class Place:
    """A process among several.

    Attributes:
        index: Which it is, from 0.
        count: How many there are.
        coordinator: ``host:port`` of the first; None where JAX knows from the launcher.
        launcher: JAX's name of the launcher that knows; ``deactivate`` for none.
    """

    index: int
    count: int
    coordinator: str | None
    launcher: Literal["slurm", "ompi", "deactivate"]


def find_place(environment: Mapping[str, str] = os.environ) -> Place | None:
    """Returns where this process stands, None where it is alone.

    Raises:
        ConfigError: Variables are missing, or say what cannot be.
    """
    coordinator = environment.get(COORDINATOR)
    if COUNT in environment:
        count = _number(environment, COUNT)
        if count == 1:  # also says that a Slurm step is not to be joined
            return None
        return Place(_index(environment, INDEX, count), count, _given(coordinator), "deactivate")
    # SLURM_NTASKS is that of the job, also in a shell or a batch script that is one
    # process; only the tasks of a step are processes that were started together.
    if _number(environment, "SLURM_STEP_NUM_TASKS", 1) > 1:
        count = _number(environment, "SLURM_STEP_NUM_TASKS")
        return Place(_index(environment, "SLURM_PROCID", count), count, coordinator, "slurm")
    if _number(environment, "OMPI_COMM_WORLD_SIZE", 1) > 1:
        count = _number(environment, "OMPI_COMM_WORLD_SIZE")
        index = _index(environment, "OMPI_COMM_WORLD_RANK", count)
        # Open MPI 5 does not say where the first process is.
        known = "OMPI_MCA_orte_hnp_uri" in environment
        return Place(index, count, coordinator if known else _given(coordinator), "ompi")
    return None


def prepare_process() -> bool:
    """Readies a process for training, before JAX is imported; returns whether it is the first.

    Of several processes only the first does. JAX's own threads would put stack traces in
    the log when one is lost, besides the line that says so; whoever sets
    ``TF_CPP_MIN_LOG_LEVEL`` is left to it.
    """
    place = find_place()
    if place is not None:
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "4")
    return place is None or place.index == 0


def _index(environment: Mapping[str, str], name: str, count: int) -> int:
    index = _number(environment, name)
    if not 0 <= index < count:
        raise _wrong(name, f"0 to {count - 1}, of {count} processes", str(index))
    return index


def _number(environment: Mapping[str, str], name: str, default: int | None = None) -> int:
    text = environment.get(name)
    if text is None and default is not None:
        return default
    if text is None or not text.isdecimal() or (name == COUNT and int(text) < 1):
        raise _wrong(name, "a whole number", "nothing" if text is None else repr(text))
    return int(text)


def _given(coordinator: str | None) -> str:
    host, _, port = (coordinator or "").rpartition(":")
    if not (host and port.isdecimal()):
        raise _wrong(COORDINATOR, "host:port of process 0", repr(coordinator or ""))
    return f"{host}:{port}"


def _wrong(name: str, expected: str, received: str) -> ConfigError:
    return ConfigError.of(
        f"environment variable {name}",
        wrong=f"found {received}, expected {expected}",
        consequence="nothing was started",
        remedy=f"Set {COUNT}, {INDEX} and {COORDINATOR} for each process, or {COUNT}=1 to "
        "train with this one alone",
    )
