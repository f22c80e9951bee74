"""The root ``zarr.json``: the single commit point of a store.

The document holds the consolidated metadata of every array and the schema.
Readers look nowhere else, so replacing it by rename publishes a change at once;
what lies on disk beyond it does not exist for them.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeInt,
    PositiveInt,
    model_validator,
)

from pipeline.files import replaced
from store_schema.documents import parse_json, read_text, validated
from store_schema.problems import StoreError

METADATA_FILE = "zarr.json"


def _inside(path: str) -> str:
    """Refuses a path that leads out of the store."""
    if any(part in ("", ".", "..") or part.startswith(".") for part in path.split("/")):
        raise ValueError("not a path below the store")
    if set(path) & {"\\", "\0"} or not path.isprintable():  # surrogates are not, nor controls
        raise ValueError("not a path below the store")
    return path


class _Part(BaseModel):
    """What this package relies on of Zarr's metadata; what else there is stays as it is."""

    model_config = ConfigDict(extra="allow", frozen=True)


class _Chunks(_Part):
    chunk_shape: tuple[PositiveInt, ...]


class _Grid(_Part):
    configuration: _Chunks


class _Described(_Part):
    zarr_format: Literal[3]
    attributes: dict[str, Any] = Field(default_factory=dict)

    def document(self) -> dict[str, Any]:
        """Returns the metadata as JSON has them."""
        return self.model_dump(exclude_unset=True)


class ArrayNode(_Described):
    """Metadata of an array."""

    node_type: Literal["array"]
    shape: tuple[NonNegativeInt, ...]
    data_type: str | dict[str, Any]
    chunk_grid: _Grid
    dimension_names: tuple[str | None, ...] | None = None

    @model_validator(mode="after")
    def _of_one_rank(self) -> Self:
        if not len(self.shape) == len(self.dims) == len(self.shard):
            raise ValueError("shape, chunks and names differ in the number of dimensions")
        return self

    @property
    def dims(self) -> tuple[str, ...]:
        """Names of the dimensions, empty where one has none."""
        return tuple(name or "" for name in self.dimension_names or [""] * len(self.shape))

    @property
    def shard(self) -> tuple[int, ...]:
        """Shape of a shard."""
        return self.chunk_grid.configuration.chunk_shape

    def resized(self, shape: Iterable[int]) -> ArrayNode:
        """Returns the metadata of the array in another shape."""
        return self.model_copy(update={"shape": tuple(shape)})

    def extended(self, sizes: Mapping[str, int]) -> ArrayNode:
        """Returns the metadata of the array as long as ``sizes`` says, by dimension name."""
        return self.resized(sizes.get(d, n) for d, n in zip(self.dims, self.shape, strict=True))


class _Below(_Part):
    metadata: dict[
        Annotated[str, AfterValidator(_inside)],
        Annotated[ArrayNode | GroupNode, Field(discriminator="node_type")],
    ]


class GroupNode(_Described):
    """Metadata of a group, that of a root with all nodes below it."""

    node_type: Literal["group"]
    consolidated_metadata: _Below | None = None


Node = ArrayNode | GroupNode
_Kind = TypeVar("_Kind", ArrayNode, GroupNode)


def group_node(attributes: Mapping[str, Any] | None = None) -> GroupNode:
    """Returns the metadata of a group."""
    return GroupNode(zarr_format=3, node_type="group", attributes=dict(attributes or {}))


def root_node(attributes: Mapping[str, Any], nodes: Mapping[str, Node]) -> GroupNode:
    """Returns the metadata of a root group that carries that of all nodes below it."""
    below = {path: nodes[path] for path in sorted(nodes)}
    held = _Below.model_validate({"kind": "inline", "must_understand": False, "metadata": below})
    return group_node(attributes).model_copy(update={"consolidated_metadata": held})


def write_node(folder: Path, node: Node) -> None:
    """Replaces the metadata of a node at once, by rename."""
    # Indented it would take ten times as long.
    text = json.dumps(node.document(), sort_keys=True)
    with replaced(folder / METADATA_FILE) as partial, partial.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def read_array_node(folder: Path) -> ArrayNode:
    """Reads the metadata of an array; see ``array_node_of`` for what is raised."""
    return array_node_of(_text(folder), folder)


def read_root(store: Path) -> GroupNode:
    """Reads the metadata of a store's root; see ``root_of`` for what is raised."""
    return root_of(_text(store), store)


def read_nodes(store: Path) -> dict[str, Node]:
    """Reads the metadata of every published node of a store, by path.

    Raises:
        StoreError: It is not a store.
    """
    return nodes_of(read_root(store), store)


def _text(folder: Path) -> str:
    try:
        return read_text(folder / METADATA_FILE)
    except (FileNotFoundError, NotADirectoryError):
        raise missing_store(folder) from None
    except OSError as error:
        raise _unreadable(folder, (error.strerror or str(error)).lower()) from error
    except ValueError as error:
        raise _unreadable(folder, str(error)) from error


def array_node_of(text: str | bytes, place: object) -> ArrayNode:
    """Parses the metadata of an array.

    Args:
        text: The document.
        place: Where the array is, for messages.

    Raises:
        StoreError: It is not JSON, or not the metadata of an array.
    """
    return _parsed(ArrayNode, text, place)


def root_of(text: str | bytes, place: object) -> GroupNode:
    """Parses the metadata of a root, and of the nodes below it; arguments as of an array.

    Raises:
        StoreError: It is not JSON, or not the metadata of a group.
    """
    return _parsed(GroupNode, text, place)


def _parsed(kind: type[_Kind], text: str | bytes, place: object) -> _Kind:
    try:
        fields = parse_json(text)
    except ValueError as error:
        raise _unreadable(place, str(error)) from error
    return validated(
        kind,
        fields,
        place,
        expected="metadata of Zarr 3 as this package writes them",
        error=StoreError,
        consequence="the store cannot be read",
        remedy="Restore its zarr.json, or ingest the sources again",
    )


def nodes_of(root: GroupNode, place: object) -> dict[str, Node]:
    """Returns the metadata of every node that a root carries, by path.

    Args:
        root: Its metadata.
        place: The store, for messages.

    Raises:
        StoreError: It carries none.
    """
    if root.consolidated_metadata is None:
        raise StoreError.of(
            str(place),
            wrong="its root group has no consolidated metadata",
            consequence="this is not a store that this package wrote",
            remedy="Make one with 'dcmnet ingest SOURCE --store STORE'",
        )
    return dict(root.consolidated_metadata.metadata)


def _unreadable(place: object, received: str) -> StoreError:
    return StoreError.of(
        str(place),
        wrong=f"its Zarr metadata are damaged: {received}",
        consequence="the store cannot be read",
        remedy="Restore its zarr.json, or ingest the sources again",
    )


def missing_store(place: object) -> StoreError:
    """Returns the error that says there is no store."""
    return StoreError.of(
        str(place),
        wrong="there is no Zarr store here",
        consequence="there is nothing to read",
        remedy="Check the path, or make one with 'dcmnet ingest SOURCE --store STORE'",
    )


def extend(nodes: Mapping[str, Node], sizes: Mapping[str, int]) -> dict[str, Node]:
    """Returns the metadata with every array as long as ``sizes`` says, by dimension name."""
    return {
        path: node.extended(sizes) if isinstance(node, ArrayNode) else node
        for path, node in nodes.items()
    }


def arrays_of(nodes: Mapping[str, Node], group: str) -> dict[str, ArrayNode]:
    """Returns the metadata of the arrays that lie directly in a group, by name."""
    prefix = f"{group}/" if group else ""
    return {
        path.removeprefix(prefix): node
        for path, node in nodes.items()
        if path.startswith(prefix)
        and "/" not in path.removeprefix(prefix)
        and isinstance(node, ArrayNode)
    }
