"""The processes of one run: joined by JAX, agreed on what only some of them know.

All processes do the same at the same time; the first one writes. What they exchange
besides gradients is text, exchanged where all of them come by.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import jax
import numpy as np
from jax.experimental import multihost_utils

from store_schema.problems import DcmError, Problem, TrainingError


class Processes:
    """The processes that train together; one where JAX has joined no others.

    Attributes:
        index: Which this one is, from 0.
        count: How many there are.
        agreed: The error that all processes know of, where there is one.
    """

    def __init__(self) -> None:
        self.index = jax.process_index()
        self.count = jax.process_count()
        self.agreed: BaseException | None = None
        self._times_asked = 0
        self._stops = False

    @property
    def is_first(self) -> bool:
        """Whether this is the process that writes."""
        return self.index == 0

    def texts(self, text: str) -> list[str]:
        """Returns the texts of all processes, on each of them."""
        if self.count == 1:
            return [text]
        mine = np.frombuffer(text.encode(), np.uint8)
        lengths = multihost_utils.process_allgather(np.array(len(mine), np.int32))
        room = np.zeros(int(lengths.max()) + 1, np.uint8)
        room[: len(mine)] = mine
        rooms = multihost_utils.process_allgather(room)
        return [
            bytes(row[:length]).decode() for row, length in zip(rooms, lengths.ravel(), strict=True)
        ]

    def first(self, number: float) -> float:
        """Returns the number that the first process has, exactly."""
        return number if self.count == 1 else float(self.texts(repr(float(number)))[0])

    def largest(self, numbers: Sequence[float]) -> list[float]:
        """Returns the largest that any process has of each number."""
        found = [json.loads(text) for text in self.texts(json.dumps(list(numbers)))]
        return [max(column) for column in zip(*found, strict=True)]

    def stop_asked(self) -> bool:
        """Tells whether SIGTERM reached any process, at the same call on all of them.

        JAX listens to the signal, and finds a call that no process has come to yet.
        """
        if not self._stops:
            self._times_asked += 1
            self._stops = multihost_utils.reached_preemption_sync_point(self._times_asked)
        return self._stops

    @contextmanager
    def together(self) -> Iterator[None]:
        """Has all processes refuse what one of them refuses inside.

        Each comes out with the error that it raised itself; the first process, which
        people watch, with that of another one. Inside, nothing may be exchanged.

        Raises:
            DcmError: This process refused; or it is the first, and another one did.
            SystemExit: Another one did, and reports it.
        """
        if self.count == 1:
            yield
            return
        own: DcmError | None = None
        try:
            yield
        except DcmError as error:
            own = error
        dumped = [problem.model_dump(mode="json") for problem in own.problems] if own else []
        errors = [json.loads(text) for text in self.texts(json.dumps(dumped))]
        refusing = [index for index, problems in enumerate(errors) if problems]
        if not refusing:
            return
        if self.index == refusing[0] and own is not None:
            self.agreed = own
        elif self.is_first:
            problems = [Problem(**fields) for fields in errors[refusing[0]]]
            self.agreed = TrainingError(
                problem.model_copy(update={"place": f"process {refusing[0]}, {problem.place}"})
                for problem in problems
            )
        else:
            self.agreed = SystemExit(1)
        raise self.agreed
