"""What Dask's workers do in an ingest: unpack, check, and write whole shards.

Every task reads files and leaves files, which are the same when it is done again: a task
whose worker was killed is simply given to another. What a source has against being read is
returned, not raised, since Dask would put it into its workers' logs.
"""

from __future__ import annotations

import os
import pickle
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache, wraps
from pathlib import Path
from typing import Any, NamedTuple, ParamSpec, TypeVar
from uuid import uuid4

import numpy as np
import zarr
from threadpoolctl import threadpool_limits

from pipeline.files import replaced
from pipeline.ingestion.blocks import Tally, Values, check
from pipeline.ingestion.plan import Plan
from pipeline.store.metadata import read_array_node, write_node
from pipeline.store.shard_buffer import ShardBuffer
from pipeline.store.table import write_rows
from store_schema.names import Variable
from store_schema.problems import DcmError, StoreError

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True)
class Piece:
    """Molecules in a scratch file.

    Attributes:
        path: The file.
        n_molecules: Molecules in it.
        shapes: Shape of each variable.
    """

    path: Path
    n_molecules: int
    shapes: Mapping[str, tuple[int, ...]]

    def load(self) -> Values:
        """Reads the variables."""
        with self.path.open("rb") as file:
            values: dict[str, np.ndarray] = pickle.load(file)
        return values


class Spilled(NamedTuple):
    """A checked block, its molecules in scratch files.

    Attributes:
        tally: What there is.
        sound: Sound molecules.
        unsound: The others.
    """

    tally: Tally
    sound: Piece
    unsound: Piece


class Part(NamedTuple):
    """Some molecules of a piece."""

    piece: Piece
    start: int
    stop: int


def _errors_returned(work: Callable[P, T]) -> Callable[P, T | DcmError]:
    """Has a task return the errors that are meant for the user."""

    @wraps(work)
    def caught(*args: P.args, **kwargs: P.kwargs) -> T | DcmError:
        try:
            return work(*args, **kwargs)
        except DcmError as error:
            return error

    return caught


class SharedFolder:
    """The folder of scratch files that the workers of an ingest share."""

    def __init__(self, path: Path) -> None:
        """Notes where it is."""
        self.path = path

    def make(self, plans: Sequence[Plan]) -> None:
        """Makes the folder, with what the workers are to know of each source."""
        for index, plan in enumerate(plans):
            self.unpacked(index).mkdir(parents=True)
            self._plan(index).write_bytes(pickle.dumps(plan))

    def unpacked(self, source: int) -> Path:
        """Returns the folder of a source's unpacked arrays."""
        return self.path / f"unpacked-{source}"

    def plan(self, source: int) -> Plan:
        """Returns a source, understood.

        Raises:
            StoreError: This worker does not see the folder.
        """
        try:
            return _loaded(self._plan(source), self.unpacked(source))
        except FileNotFoundError as error:
            raise StoreError.of(
                str(self.path),
                wrong="a worker does not see this folder, which all workers and this process "
                "must share",
                consequence="nothing was stored",
                remedy="Put sources and store on a file system that they share",
            ) from error

    def spill(self, name: str, n_molecules: int, values: Values) -> Piece:
        """Writes molecules to a scratch file."""
        place = self.path / name
        if n_molecules:
            with replaced(place) as partial, partial.open("wb") as file:
                pickle.dump(dict(values), file, protocol=pickle.HIGHEST_PROTOCOL)
        return Piece(place, n_molecules, {name: array.shape for name, array in values.items()})

    @contextmanager
    def own(self) -> Iterator[Path]:
        """Yields a folder that no other task has."""
        folder = self.path / uuid4().hex
        folder.mkdir()
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _plan(self, source: int) -> Path:
        return self.path / f"plan-{source}"


# Blocks of a few sources are under way at a time.
@lru_cache(maxsize=8)
def _loaded(path: Path, unpacked: Path) -> Plan:
    plan: Plan = pickle.loads(path.read_bytes())
    for archive in plan.source.archives():
        archive.unpacked_in(unpacked / str(list(plan.source.archives()).index(archive)))
    return plan


@_errors_returned
def unpack(folder: Path, source: int, archive: int, key: str) -> None:
    """Unpacks an array of a source, so that its blocks can be read in any order.

    Args:
        folder: Scratch folder.
        source: Index of the source.
        archive: Index of the file among its archives.
        key: Key of the array.

    Returns:
        Nothing, or the SourceError or StoreError that there is.
    """
    shared = SharedFolder(folder)
    file = list(shared.plan(source).source.archives())[archive]
    place = shared.unpacked(source) / str(archive)
    place.mkdir(exist_ok=True)
    file.unpack(key, place)


@_errors_returned
def check_block(
    folder: Path, source: int, rows: tuple[int, int], keeps_split: bool, after: Sequence[Any]
) -> Spilled:
    """Translates and checks consecutive molecules of a source.

    Args:
        folder: Scratch folder.
        source: Index of the source.
        rows: First molecule, and the one behind the last.
        keeps_split: Whether to store what the file's name says of the set.
        after: What the unpacking of the source returned.

    Returns:
        What there is and where it lies, or the SourceError or StoreError that there is.
    """
    for error in after:
        if error is not None:
            raise error
    shared = SharedFolder(folder)
    plan = shared.plan(source)
    with threadpool_limits(1, user_api="blas"):
        block = check(plan, plan.source.stretch(*rows), keeps_split)
    name, tally = f"{source}-{rows[0]}", block.tally
    return Spilled(
        tally,
        shared.spill(f"{name}-sound", tally.n_sound, block.sound),
        shared.spill(f"{name}-unsound", len(tally.reasons), block.unsound),
    )


@_errors_returned
def write_shard(
    folder: Path,
    staging: Path,
    variables: Mapping[str, Variable],
    shard: int,
    parts: Sequence[Part],
) -> None:
    """Writes one whole shard of every variable.

    Args:
        folder: Scratch folder.
        staging: Folder of the staged arrays.
        variables: Variables by name.
        shard: Index of the shard among the staged ones.
        parts: Its molecules.
    """
    rows = sum(part.stop - part.start for part in parts)
    with SharedFolder(folder).own() as own:
        arrays = {}
        for name in variables:
            node = read_array_node(staging / name)
            write_node(own / name, node.resized((rows, *node.shape[1:])))
            arrays[name] = zarr.open_array(own / name, mode="r+")
        bounds = {name: array.shape[1:] for name, array in arrays.items()}
        buffer = ShardBuffer(variables, bounds, rows)
        for piece, start, stop in parts:
            values = piece.load()
            buffer.take(stop - start, {name: v[start:stop] for name, v in values.items()})
        for name, array in arrays.items():
            filled = buffer.filled(name)
            if filled is not None:
                write_rows(array, own / name, 0, filled)
            _move(own / name / "c", staging / name, shard)


def _move(chunks: Path, array: Path, shard: int) -> None:
    """Moves the only shard of an array to its place among those of another."""
    for file in sorted(chunks.rglob("*")):
        if file.is_file():
            place = array / "c"
            for part in (str(shard), *file.relative_to(chunks).parts[1:]):
                # Nothing is made where the array itself has gone, after an ingest that failed.
                place.mkdir(exist_ok=True)
                place /= part
            os.replace(file, place)
