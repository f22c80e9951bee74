"""Ingest into an object store: staged as a local store, uploaded, and published by its root.

Readers look at the root ``zarr.json`` alone. It is put last, on the condition that it is
still what the writer began from; before that they see the store as it was. The shards
have fixed names, so writers keep apart by a claim, an object that is put only if it
is not there. Of an existing store only the metadata and the last partial shards are fetched.
"""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final, TypeAlias
from uuid import uuid4

import obstore
from obstore.exceptions import AlreadyExistsError, GenericError, PreconditionError
from obstore.store import GCSStore, S3Store

from pipeline.store_location import ObjectLocation, reached
from pipeline.zarr_metadata import METADATA_FILE, read_nodes, write_document
from store_schema.names import RESULTS_GROUP
from store_schema.problems import StoreError

Objects: TypeAlias = GCSStore | S3Store
_CLAIM: Final = ".writer"
_LISTINGS: Final = 4


@contextmanager
def staged_store(place: ObjectLocation) -> Iterator[Path]:
    """Gives a local folder to ingest into, and publishes what has changed in it.

    Nothing is published when the block is left by an error.

    Raises:
        StoreError: Another writer holds the store, or published while this one was at
            work; or the objects cannot be reached.
    """
    objects = place.objects()
    with _claimed(place, objects), TemporaryDirectory(prefix="dcmnet-") as scratch:
        folder = Path(scratch) / place.name
        with reached(place):
            root = _fetch(objects, folder)
            replaceable = _replaceable(objects, folder)
            for key in replaceable:
                if root is not None and _is_last_shard(key, folder):
                    _download(objects, key, folder / key)
        before = _states(folder)
        yield folder
        with reached(place):
            _upload(place, objects, folder, before=before, replaceable=replaceable, root=root)


@contextmanager
def _claimed(place: ObjectLocation, objects: Objects) -> Iterator[None]:
    """Keeps other writers out; a killed writer's claim stays, as no clock can tell it is dead."""
    mine = {
        "host": socket.gethostname(),
        "process": os.getpid(),
        "since": datetime.now(UTC).isoformat(timespec="seconds"),
        "token": uuid4().hex,
    }
    with reached(place):
        try:
            obstore.put(objects, _CLAIM, json.dumps(mine).encode(), mode="create")
        except AlreadyExistsError:
            other = json.loads(bytes(obstore.get(objects, _CLAIM).bytes()))
            if other != mine:  # else only the answer to the put was lost
                raise StoreError.of(
                    str(place),
                    expected="no other writer",
                    received=f"process {other['process']} on {other['host']}"
                    f" since {other['since']}",
                    consequence="nothing was written",
                    remedy="Try again when it has ended; "
                    f"if it was killed, remove {place}/{_CLAIM}",
                ) from None
        except FileNotFoundError:
            raise StoreError.of(
                str(place),
                expected="a bucket",
                received="none of this name",
                consequence="nothing was written",
                remedy="Make the bucket, or name another",
            ) from None
    try:
        yield
    finally:
        with reached(place):
            obstore.delete(objects, _CLAIM)


def _fetch(objects: Objects, folder: Path) -> str | None:
    """Fetches the metadata of a store, where there is one; returns the root's tag."""
    try:
        answer = obstore.get(objects, METADATA_FILE)
    except FileNotFoundError:
        return None
    folder.mkdir()
    (folder / METADATA_FILE).write_bytes(bytes(answer.bytes()))
    for path, document in read_nodes(folder).items():
        write_document(folder / path, document)
    return answer.meta["e_tag"]


def _replaceable(objects: Objects, folder: Path) -> set[str]:
    """Keys that no reader needs as they are: last partial shards, and what lies beyond."""
    nodes = read_nodes(folder) if folder.exists() else {}
    keys = set()
    for key in _listed(objects):
        if key == _CLAIM or key.startswith(f"{RESULTS_GROUP}/"):
            continue
        node, within, shard = key.rpartition("/c/")
        if not within and not folder.exists():
            keys.add(key)
        elif within and node in nodes:
            grid = nodes[node]["chunk_grid"]["configuration"]["chunk_shape"]
            if int(shard.partition("/")[0]) >= nodes[node]["shape"][0] // grid[0]:
                keys.add(key)
        elif within:
            keys.add(key)
    return keys


def _listed(objects: Objects) -> list[str]:
    """Lists all keys; begins again where an answer was cut, which the client does not."""
    attempt = 0
    while True:
        try:
            return [entry["path"] for batch in obstore.list(objects) for entry in batch]
        except GenericError:
            attempt += 1
            if attempt == _LISTINGS:
                raise
            time.sleep(2**attempt / 4)


def _is_last_shard(key: str, folder: Path) -> bool:
    node, _, shard = key.rpartition("/c/")
    document = read_nodes(folder).get(node)
    if document is None:
        return False
    rows = document["chunk_grid"]["configuration"]["chunk_shape"][0]
    return int(shard.partition("/")[0]) == document["shape"][0] // rows


def _download(objects: Objects, key: str, file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("wb") as target:
        for piece in obstore.get(objects, key).stream():
            target.write(piece)


def _states(folder: Path) -> dict[str, tuple[int, int]]:
    """What changes whenever a file of a folder is replaced."""
    files = (file for file in folder.rglob("*") if file.is_file())
    return {
        file.relative_to(folder).as_posix(): (file.stat().st_ino, file.stat().st_mtime_ns)
        for file in files
    }


def _upload(
    place: ObjectLocation,
    objects: Objects,
    folder: Path,
    *,
    before: dict[str, tuple[int, int]],
    replaceable: set[str],
    root: str | None,
) -> None:
    after = _states(folder)
    changed = {key for key, state in after.items() if before.get(key) != state}
    if METADATA_FILE not in changed:  # the sources were in the store already
        return
    # Shards before metadata: TensorStore reads that of an array by itself.
    for key in sorted(changed - {METADATA_FILE}, key=lambda key: (key.endswith(".json"), key)):
        obstore.put(objects, key, folder / key)
    for key in sorted(replaceable - set(after)):
        obstore.delete(objects, key)
    try:
        mode: Any = "create" if root is None else {"e_tag": root}
        obstore.put(objects, METADATA_FILE, folder / METADATA_FILE, mode=mode, use_multipart=False)
    except (AlreadyExistsError, PreconditionError):
        stored = bytes(obstore.get(objects, METADATA_FILE).bytes())
        if stored == (folder / METADATA_FILE).read_bytes():
            return  # only the answer to the put was lost
        raise StoreError.of(
            str(place),
            expected="the store as it was when this writer began",
            received="one that another writer has published since",
            consequence="nothing of this ingest is in it",
            remedy="Ingest again with --append",
        ) from None
