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
from typing import Any

from pipeline.files import replaced
from store_schema.problems import StoreError

Document = dict[str, Any]
METADATA_FILE = "zarr.json"


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
        StoreError: There is none, or it is not JSON.
    """
    try:
        document = json.loads((node / METADATA_FILE).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise missing_store(node) from None
    except ValueError as error:
        raise StoreError.of(
            str(node / METADATA_FILE),
            expected="Zarr metadata in JSON",
            received=str(error),
            consequence="the store cannot be read",
            remedy="Ingest the sources again",
        ) from error
    return dict(document)


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
    consolidated = root.get("consolidated_metadata")
    if not isinstance(consolidated, Mapping):
        raise StoreError.of(
            str(place),
            expected="a root group with consolidated metadata",
            received="one without",
            consequence="this is not a store that this package wrote",
            remedy="Make one with 'dcmnet ingest SOURCE --store STORE'",
        )
    return dict(consolidated["metadata"])


def missing_store(place: object) -> StoreError:
    """Returns the error that says there is no store."""
    return StoreError.of(
        str(place),
        expected="a Zarr store",
        received="nothing that is one",
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
