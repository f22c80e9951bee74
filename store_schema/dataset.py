"""The schema of a store: versioned, validated, kept in the root group's attributes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from store_schema.migration import migrated
from store_schema.names import SCHEMA_ATTRIBUTE
from store_schema.problems import Problem, StoreError
from store_schema.provenance import SourceRecord

SCHEMA_VERSION: Final = 2


class StoreSchema(BaseModel):
    """What a store holds, and where it came from.

    The schema records meaning and sizes. It does not check the values of arrays;
    ``dcmnet validate`` does.

    Attributes:
        version: Version of this schema.
        n_molecules: Length of the molecule dimension.
        max_atoms: Length of the atom dimension.
        max_grid: Length of the grid_point dimension; 0 in a store without an ESP.
        n_quarantined: Molecules in the quarantine group.
        variables: Arrays of the root group, canonical and kept ones.
        units: Unit of each variable that has one.
        sources: Every source, in the order it was ingested.
        created_by: Package and version that wrote the store.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[2] = SCHEMA_VERSION
    n_molecules: int = Field(ge=0)
    max_atoms: int = Field(ge=0)
    max_grid: int = Field(ge=0)
    n_quarantined: int = Field(default=0, ge=0)
    variables: tuple[str, ...]
    units: dict[str, str]
    sources: tuple[SourceRecord, ...]
    created_by: str

    @model_validator(mode="after")
    def _counts_agree(self) -> Self:
        stored = sum(source.n_molecules for source in self.sources)
        if stored != self.n_molecules:
            raise ValueError(f"n_molecules is {self.n_molecules}, its sources hold {stored}")
        return self

    def to_attributes(self) -> dict[str, Any]:
        """Returns the attributes of the root group that hold this schema."""
        return {SCHEMA_ATTRIBUTE: self.model_dump(mode="json")}

    @classmethod
    def from_attributes(cls, attributes: Mapping[str, Any], place: str) -> StoreSchema:
        """Reads the schema from the attributes of a root group.

        Args:
            attributes: Attributes of the group.
            place: Store, for the error message.

        Raises:
            StoreError: There is no schema, it is of another version, or it is not
                valid; every problem is listed.
        """
        found = attributes.get(SCHEMA_ATTRIBUTE)
        if not isinstance(found, Mapping):
            raise StoreError.of(
                place,
                wrong=(
                    f"it has no schema ({SCHEMA_ATTRIBUTE})"
                    if found is None
                    else f"its schema is {type(found).__name__}, not a mapping"
                ),
                consequence="this is not a store that this package wrote",
                remedy="Make one with 'dcmnet ingest SOURCE --store STORE'",
            )
        version = found.get("version")
        found = migrated(found, SCHEMA_VERSION)
        if found.get("version") != SCHEMA_VERSION:
            raise StoreError.of(
                place,
                wrong=f"its schema has version {version!r}; this release reads version "
                f"{SCHEMA_VERSION}",
                consequence="its fields may mean something else",
                remedy="Install the release that wrote it, or ingest the sources again",
            )
        try:
            return cls.model_validate(found)
        except ValidationError as error:
            raise StoreError(
                Problem(
                    place=f"{place}, {SCHEMA_ATTRIBUTE}.{'.'.join(map(str, entry['loc']))}",
                    wrong=f"{entry['msg'].removeprefix('Value error, ')} "
                    f"(found {str(entry['input'])[:80]!r})",
                    consequence="the store cannot be trusted",
                    remedy="Ingest the sources again",
                )
                for entry in error.errors()
            ) from error
