"""Configurations: frozen models whose fields are found by name, and validated in words."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Self, TypeVar, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError

from store_schema.documents import read_json as read_document
from store_schema.problems import ConfigError, Problem

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

_ConfigT = TypeVar("_ConfigT", bound=BaseModel)


class Config(BaseModel):
    """A configuration: frozen, of known fields and finite numbers only."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    def updated(self, **fields: object) -> Self:
        """Returns a copy with fields replaced and everything validated again.

        Raises:
            ConfigError: Fields are unknown or out of bounds; all are listed.
        """
        return parse(type(self), {**self.model_dump(), **fields}) if fields else self


def _name(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", text):
        raise ValueError(
            f"{text!r} is no name of letters, digits, '.', '_' and '-' that begins with a letter "
            "or digit"
        )
    return text


# Of a folder.
Name = Annotated[str, AfterValidator(_name)]


def read_json(path: str | Path, what: str) -> object:
    """Reads a JSON file.

    Args:
        path: The file.
        what: How messages name what it should be.

    Raises:
        ConfigError: The file is missing or not JSON.
    """
    try:
        return read_document(path)
    except (OSError, ValueError) as error:
        in_words = error.strerror if isinstance(error, OSError) else None
        missing = isinstance(error, FileNotFoundError | NotADirectoryError)
        raise ConfigError.of(
            str(path),
            wrong=(
                "there is no such file"
                if missing
                else f"this is no JSON file, {what}: {in_words or error}"
            ),
            consequence="nothing was started",
            remedy=f"Check the path; give {what}, or one written like it",
        ) from error


def parse(kind: type[_ConfigT], fields: object, known: Collection[str] | None = None) -> _ConfigT:
    """Validates fields against a configuration model.

    Args:
        kind: The model.
        fields: What was found.
        known: Names to suggest for an unknown one; those of the model by default.

    Raises:
        ConfigError: All problems, each with the field's name.
    """
    try:
        return kind.model_validate(fields)
    except ValidationError as error:
        problems = []
        for entry in error.errors():
            name = ".".join(map(str, entry["loc"])) or kind.__name__
            if entry["type"] == "extra_forbidden":
                problems.append(unknown_field(name, known or field_paths(kind)))
            else:
                problems.append(
                    Problem(
                        place=f"configuration field {name}",
                        wrong=_wrong(entry),
                        consequence="nothing was started",
                        remedy="Correct the value",
                    )
                )
        raise ConfigError(problems) from error


def _wrong(entry: ErrorDetails) -> str:
    """Returns what pydantic found, and what it asks for instead."""
    kind, about = entry["type"], entry.get("ctx", {})
    if kind == "missing":
        return "it has no value"
    if kind == "union_tag_not_found":
        return f"it has no {about['discriminator']}"
    if kind == "union_tag_invalid":
        return f"its {about['discriminator']} is {about['tag']!r}, not {about['expected_tags']}"
    if kind == "value_error":
        return entry["msg"].removeprefix("Value error, ")
    message = entry["msg"].removeprefix("Input should be ").removeprefix("String should ")
    given = "this" if isinstance(entry["input"], dict) else repr(entry["input"])[:80]
    return f"{given} is not {message.replace('match pattern', 'text that matches')}"


def field_paths(kind: type[BaseModel]) -> dict[str, tuple[str, ...]]:
    """Returns where in a configuration each field is, by its dotted and its short name."""
    paths: dict[str, tuple[str, ...]] = {}
    for name, field in kind.model_fields.items():
        section = field.annotation
        if isinstance(section, type) and issubclass(section, Config):
            for inner in section.model_fields:
                paths[f"{name}.{inner}"] = paths[inner] = (name, inner)
        else:
            paths[name] = (name,)
    return paths


def annotation_of(kind: type[BaseModel], path: tuple[str, ...]) -> Any:
    """Returns the type of a field, of the configuration or of one of its sections."""
    annotation: Any = kind
    for step in path:
        annotation = annotation.model_fields[step].annotation
    return annotation


def unknown_field(name: str, known: Collection[str]) -> Problem:
    """Returns the problem of a name that no field has, with the nearest ones."""
    near = [
        *difflib.get_close_matches(name, known, n=3, cutoff=0.5),
        *difflib.get_close_matches(name.rpartition(".")[2], known, n=1, cutoff=0.6),
    ]
    near = list(dict.fromkeys(near))[:3]
    return Problem(
        place=f"configuration field {name!r}",
        wrong="there is no field of this name",
        consequence="nothing was started",
        remedy=f"Did you mean {' or '.join(near)}?" if near else f"Fields: {', '.join(known)}",
    )


def from_text(value: object, annotation: Any) -> object:
    """Returns the value that a text stands for in JSON, where a field of this type takes it."""
    if not isinstance(value, str) or annotation is str:
        return value
    try:
        found = json.loads(value)
    except ValueError:
        return value
    # Text is allowed besides null: only null is not meant as text.
    return value if str in get_args(annotation) and found is not None else found
