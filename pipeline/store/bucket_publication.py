"""Changes of a store of objects: staged in a local folder, uploaded, published by its root.

Readers look at the root ``zarr.json`` alone. It is put last, on the condition that it is
still what the writer began from; before that they see the store as it was. The shards
have fixed names, so writers keep apart by a claim. Of an existing store only the metadata
is fetched, and for an append the last partial shards.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import obstore
from obstore.exceptions import AlreadyExistsError, PreconditionError

from pipeline.store.bucket_claim import CLAIM, claimed, version
from pipeline.store.bucket_requests import FRESH, Objects, remove, retried, upload
from pipeline.store.location import ObjectLocation, unreachable_explained
from pipeline.store.metadata import METADATA_FILE, ArrayNode, Node, read_nodes, write_node
from store_schema.names import RESULTS_GROUP
from store_schema.problems import DcmError, StoreError


@contextmanager
def staged_store(place: ObjectLocation, *, append: bool) -> Iterator[StagedStore]:
    """Yields a folder with the metadata of a store, which is changed there and published.

    Args:
        place: The store; the folder does not exist where there is none yet.
        append: Molecules will be added, if there is a store: other writers are refused, and
            the last partial shards are fetched. Else other writers are waited for.

    Raises:
        StoreError: Another writer holds the store, or published while this one was at
            work; or the objects cannot be reached.
    """
    objects = place.objects()
    with (
        claimed(place, objects, wait=not append),
        TemporaryDirectory(prefix="dcmnet-") as scratch,
    ):
        staged = StagedStore(place, objects, Path(scratch) / place.name)
        with unreachable_explained(place):
            staged.fetch(shards=append)
        try:
            yield staged
        except DcmError as error:
            raise _of_the_store(error, place, staged.folder) from error.__cause__


class StagedStore:
    """A local folder that stands for a store of objects.

    Attributes:
        folder: What it holds differs from the store by what was changed since.
    """

    def __init__(self, place: ObjectLocation, objects: Objects, folder: Path) -> None:
        self.folder = folder
        self._place = place
        self._objects = objects
        self._root: dict[str, Any] | None = None
        self._nodes: dict[str, Node] = {}
        self._known: set[str] = set()  # nodes so far; what else has this prefix is not ours
        self._states: dict[str, tuple[int, int]] = {}

    def fetch(self, *, shards: bool) -> None:
        """Fetches the metadata, where there is a store, and its last partial shards."""
        try:
            answer = retried(obstore.get, self._objects, METADATA_FILE)
        except FileNotFoundError:
            return
        self.folder.mkdir()
        (self.folder / METADATA_FILE).write_bytes(bytes(answer.bytes()))
        self._root = version(answer.meta)
        self._nodes = read_nodes(self.folder)
        self._known = set(self._nodes)
        for path, node in self._nodes.items():
            write_node(self.folder / path, node)
        for key in self._listed() if shards else ():
            if _filled(key, self._nodes) == "partly" and not key.startswith(f"{RESULTS_GROUP}/"):
                retried(_download, self._objects, key, self.folder / key)
        self._states = _states(self.folder)

    def publish(self) -> None:
        """Uploads what has changed, and then lets readers see it, by the root's metadata.

        Raises:
            StoreError: Another writer has published since, or the objects cannot be reached.
        """
        with unreachable_explained(self._place):
            self._publish()

    def _publish(self) -> None:
        after = _states(self.folder)
        changed = {key for key, state in after.items() if self._states.get(key) != state}
        if METADATA_FILE not in changed:  # the sources were in the store already
            return
        # Shards before metadata: TensorStore reads that of an array by itself.
        for key in sorted(changed - {METADATA_FILE}, key=lambda key: (key.endswith(".json"), key)):
            upload(self._objects, key, self.folder / key)
        nodes = read_nodes(self.folder)
        self._known |= nodes.keys()
        for key in self._listed():  # what killed writers left, and groups that were replaced
            if key not in after and self._is_ours(key) and not _filled(key, self._nodes):
                remove(self._objects, key)
        self._put_root()
        self._nodes, self._states = nodes, after

    def _put_root(self) -> None:
        file = self.folder / METADATA_FILE
        mode: Any = self._root or "create"
        try:
            result = retried(
                obstore.put,
                self._objects,
                METADATA_FILE,
                file,
                mode=mode,
                use_multipart=False,
                attributes=FRESH,
            )
        except (AlreadyExistsError, PreconditionError):
            answer = retried(obstore.get, self._objects, METADATA_FILE)
            if bytes(answer.bytes()) != file.read_bytes():
                raise StoreError.of(
                    str(self._place),
                    wrong="another writer has published the store since this one began",
                    consequence="nothing of this one is in it",
                    remedy="Do it again; add molecules with --append",
                ) from None
            result = answer.meta  # only the answer to the put was lost
        self._root = version(result)

    def _is_ours(self, key: str) -> bool:
        node = _node(key)
        return node in self._known or node.rpartition("/")[0] in self._known

    def _listed(self) -> list[str]:
        """Lists all keys but that of the root and the claim."""
        keys = retried(_keys, self._objects)
        return sorted(keys - {CLAIM, METADATA_FILE})


def _of_the_store(error: DcmError, place: ObjectLocation, folder: Path) -> DcmError:
    """Names the store where the error of a change names the folder that stands for it."""
    return type(error)(
        problem.model_copy(update={"place": problem.place.replace(str(folder), str(place))})
        for problem in error.problems
    )


def _keys(objects: Objects) -> set[str]:
    return {entry["path"] for batch in obstore.list(objects) for entry in batch}


def _node(key: str) -> str:
    """Path of the node that an object belongs to, if it is one of a store."""
    folder, _, file = key.rpartition("/")
    return folder if file == METADATA_FILE else key.rpartition("/c/")[0]


def _filled(key: str, nodes: Mapping[str, Node]) -> Literal["", "partly", "wholly"]:
    """How much of an object readers look at; nothing if it is of no node or beyond an array."""
    node = nodes.get(_node(key))
    if node is None:
        return ""
    if key.endswith(f"/{METADATA_FILE}") or not isinstance(node, ArrayNode):
        return "wholly"
    rows, n_rows = node.shard[0], node.shape[0]
    index = int(key.rpartition("/c/")[2].partition("/")[0])
    if index < n_rows // rows:
        return "wholly"
    return "partly" if index * rows < n_rows else ""


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
