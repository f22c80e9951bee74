"""The root ``zarr.json``: the single commit point of a store.

The document holds the consolidated metadata of every array and the schema.
Readers look nowhere else, so replacing it by rename publishes a change at once;
what lies on disk beyond it does not exist for them.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

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

Document = dict[str, Any]
METADATA_FILE = "zarr.json"


def _inside(path: str) -> str:
    """Refuses a path that leads out of the store."""
    if any(part in ("", ".", "..") or part.startswith(".") for part in path.split("/")):
        raise ValueError("not a path below the store")
    if set(path) & {"\\", "\0"} or not path.isprintable():  # surrogates are not, nor controls
        raise ValueError("not a path below the store")
    return path


class _Metadata(BaseModel):
    """What this package relies on of Zarr's metadata; zarr itself checks the rest."""

    model_config = ConfigDict(extra="allow")

    zarr_format: Literal[3]
    attributes: dict[str, Any] = Field(default_factory=dict)


class _Chunks(BaseModel):
    chunk_shape: tuple[PositiveInt, ...]


class _Grid(BaseModel):
    configuration: _Chunks


class _Array(_Metadata):
    node_type: Literal["array"]
    shape: tuple[NonNegativeInt, ...]
    data_type: str | dict[str, Any]
    chunk_grid: _Grid
    dimension_names: tuple[str | None, ...] | None = None

    @model_validator(mode="after")
    def _of_one_rank(self) -> Self:
        names = self.dimension_names if self.dimension_names is not None else self.shape
        if not len(self.shape) == len(names) == len(self.chunk_grid.configuration.chunk_shape):
            raise ValueError("shape, chunks and names differ in the number of dimensions")
        return self


class _Below(BaseModel):
    model_config = ConfigDict(extra="allow")

    metadata: dict[
        Annotated[str, AfterValidator(_inside)],
        Annotated[_Array | _Group, Field(discriminator="node_type")],
    ]


class _Group(_Metadata):
    node_type: Literal["group"]
    consolidated_metadata: _Below | None = None


class _Node(BaseModel):
    node: Annotated[_Array | _Group, Field(discriminator="node_type")]


def group_document(attributes: Mapping[str, Any] | None = None) -> Document:
    """Returns the metadata of a Zarr group."""
    return {"zarr_format": 3, "node_type": "group", "attributes": dict(attributes or {})}


def root_document(attributes: Mapping[str, Any], nodes: Mapping[str, Document]) -> Document:
    """Returns the metadata of a root group that carries that of all nodes below it."""
    return group_document(attributes) | {
        "consolidated_metadata": {
            "kind": "inline",
            "must_understand": False,
            "metadata": {path: nodes[path] for path in sorted(nodes)},
        }
    }


def write_document(node: Path, document: Document) -> None:
    """Replaces the metadata of a node at once, by rename."""
    with replaced(node / METADATA_FILE) as partial, partial.open("w", encoding="utf-8") as file:
        file.write(json.dumps(document, sort_keys=True))  # indented it would take ten times as long
        file.flush()
        os.fsync(file.fileno())


def read_document(node: Path) -> Document:
    """Reads the metadata of a node.

    Raises:
        StoreError: There is none, or it is not that of a node.
    """
    try:
        return document_of(read_text(node / METADATA_FILE), node)
    except (FileNotFoundError, NotADirectoryError):
        raise missing_store(node) from None
    except OSError as error:
        raise _unreadable(node, (error.strerror or str(error)).lower()) from error
    except ValueError as error:
        raise _unreadable(node, str(error)) from error


def document_of(text: str | bytes, place: object) -> Document:
    """Parses the metadata of a node, and of those below it.

    Args:
        text: The document.
        place: Where the node is, for messages.

    Raises:
        StoreError: It is not JSON, or not the metadata of a node.
    """
    try:
        fields = parse_json(text)
    except ValueError as error:
        raise _unreadable(place, str(error)) from error
    validated(
        _Node,
        {"node": fields},
        place,
        expected="metadata of Zarr 3 as this package writes them",
        error=StoreError,
        consequence="the store cannot be read",
        remedy="Restore its zarr.json, or ingest the sources again",
    )
    assert isinstance(fields, dict)  # which it is, when valid
    return fields


def read_nodes(store: Path) -> dict[str, Document]:
    """Reads the metadata of every published node of a store, by path.

    Raises:
        StoreError: It is not a store.
    """
    return nodes_of(read_document(store), store)


def nodes_of(root: Document, place: object) -> dict[str, Document]:
    """Returns the metadata of every node that a root document carries, by path.

    Args:
        root: The document.
        place: The store, for messages.

    Raises:
        StoreError: It carries none.
    """
    if not root.get("consolidated_metadata"):
        raise StoreError.of(
            str(place),
            wrong="its root group has no consolidated metadata",
            consequence="this is not a store that this package wrote",
            remedy="Make one with 'dcmnet ingest SOURCE --store STORE'",
        )
    return dict(root["consolidated_metadata"]["metadata"])


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


def extend(nodes: Mapping[str, Document], sizes: Mapping[str, int]) -> dict[str, Document]:
    """Returns the metadata with every array as long as ``sizes`` says, by dimension name."""
    extended = {}
    for path, document in nodes.items():
        if document["node_type"] == "array":
            dims = document["dimension_names"]
            shape = [sizes.get(d, n) for d, n in zip(dims, document["shape"], strict=True)]
            document = {**document, "shape": shape}  # noqa: PLW2901  (the input is left alone)
        extended[path] = document
    return extended


def arrays_of(nodes: Mapping[str, Document], group: str) -> dict[str, Document]:
    """Returns the metadata of the arrays that lie directly in a group, by name."""
    prefix = f"{group}/" if group else ""
    return {
        path.removeprefix(prefix): document
        for path, document in nodes.items()
        if path.startswith(prefix)
        and "/" not in path.removeprefix(prefix)
        and document["node_type"] == "array"
    }
