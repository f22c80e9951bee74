"""Blocks of a source on their way into a store: translated, checked, written, and counted."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from pipeline.adapters import Block
from pipeline.ingestion.canonical import canonical
from pipeline.ingestion.checks import faults
from pipeline.ingestion.derived_esp import DerivedTally
from pipeline.ingestion.plan import Plan
from pipeline.ingestion.repeated_ids import Hashes, hash_of_ids
from pipeline.store.molecules import StoreWriter
from store_schema.names import MOLECULE, Variable
from store_schema.problems import Problem, SourceError

SPLIT = Variable("split", (MOLECULE,), "str", "none", "set that the file's name says")

Values = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Tally:
    """What became of the molecules of one block.

    Attributes:
        n_sound: Molecules to store.
        reasons: Why each of the others is set aside.
        present: Molecules that have each variable, those set aside included.
        remarks: Molecules that each remark is about.
        ids: Hash of each molecule's id.
        invalid: The error that says so, where a molecule is not sound.
        derived: ESPs that were evaluated from multipoles.
    """

    n_sound: int
    reasons: list[str]
    present: Counter[str]
    remarks: Counter[str]
    ids: Hashes
    invalid: SourceError | None
    derived: DerivedTally | None = None

    @property
    def n_molecules(self) -> int:
        """Molecules of the block."""
        return self.n_sound + len(self.reasons)


@dataclass(frozen=True)
class Checked:
    """A block, translated and checked.

    Attributes:
        tally: What there is.
        sound: Variables of the sound molecules, in canonical units.
        unsound: Those of the others.
    """

    tally: Tally
    sound: Values
    unsound: Values


class BlockWriter(Protocol):
    """Where blocks are checked and written."""

    def store(self, plan: Plan) -> Iterator[Tally]:
        """Writes the molecules of a source in order, and yields what became of each block."""
        ...

    def finish(self) -> None:
        """Hands what is still under way to the writer."""
        ...


class Threads:
    """Checks blocks in threads of this process."""

    def __init__(self, writer: StoreWriter, keeps_split: bool, workers: int) -> None:
        """Notes where molecules go.

        Args:
            writer: Takes the molecules.
            keeps_split: Whether to store what the file's name says of the set.
            workers: Threads.
        """
        self._writer, self._keeps_split, self._workers = writer, keeps_split, workers

    def store(self, plan: Plan) -> Iterator[Tally]:
        """Writes the molecules of a source; see ``BlockWriter.store``."""
        for block in self._checked(plan):
            tally = block.tally
            self._writer.write(tally.n_sound, block.sound)
            if tally.reasons:
                self._writer.quarantine(block.unsound, tally.reasons)
            yield tally

    def finish(self) -> None:
        """Nothing is under way."""

    def _checked(self, plan: Plan) -> Iterator[Checked]:
        """Checks blocks in their order, a few at a time."""
        blocks = plan.source.blocks(plan.block_molecules)
        if self._workers <= 1:
            for block in blocks:
                yield check(plan, block, self._keeps_split)
            return
        with ThreadPoolExecutor(self._workers) as pool:
            pending: deque[Future[Checked]] = deque()
            for block in blocks:
                pending.append(pool.submit(check, plan, block, self._keeps_split))
                if len(pending) > 2 * self._workers:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()


def check(plan: Plan, block: Block, keeps_split: bool) -> Checked:
    """Translates a block and sorts its molecules into sound ones and others.

    Raises:
        SourceError: A column cannot be translated.
    """
    translated = canonical(block, plan.interpretation, plan.source)
    reasons = faults(translated)
    sound = np.array([not reason for reason in reasons])
    values = translated.values
    if keeps_split:
        values[SPLIT.name] = np.full(translated.n_molecules, plan.split, dtype=object)
    whole = bool(sound.all())
    tally = Tally(
        n_sound=int(sound.sum()),
        reasons=[reason for reason in reasons if reason],
        present=Counter(translated.present()),
        remarks=Counter(translated.remarks()),
        ids=hash_of_ids(values["molecule_id"]),
        invalid=None if whole else _invalid(plan, values["molecule_id"], reasons),
        derived=translated.derived,
    )
    return Checked(
        tally,
        sound=values if whole else {name: array[sound] for name, array in values.items()},
        unsound={} if whole else {name: array[~sound] for name, array in values.items()},
    )


def _invalid(plan: Plan, names: np.ndarray, reasons: list[str]) -> SourceError:
    return SourceError(
        Problem(
            place=f"{plan.source.place}, {identity}",
            wrong=f"this molecule is not sound: {reason}",
            consequence="nothing was stored",
            remedy="Mend or remove it, or set such molecules aside with --on-invalid quarantine",
        )
        for identity, reason in zip(names, reasons, strict=True)
        if reason
    )
