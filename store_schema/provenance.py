"""Where data came from and what its keys were taken to mean, with the evidence."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from store_schema.semantics import SEMANTICS
from store_schema.units import parse_unit

Origin = Literal["alias", "shape", "physics", "default", "declared", "forced", "derived", "kept"]


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class SourceFile(_Record):
    """One file of a source.

    Attributes:
        name: File name without its folder, so that stores compare across machines.
        size: Bytes.
        sha256: Digest of the file, hexadecimal.
    """

    name: str
    size: int = Field(ge=0)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


class KeyRecord(_Record):
    """What one key of a source was taken to mean.

    Attributes:
        semantics: A name of ``store_schema.semantics``; ``unknown`` for a key that is
            kept under its own name, ``metadata`` for one that is not per molecule.
        stored_as: Variable of the store; empty where nothing is stored.
        unit: Unit the source's values are in; empty where there is none.
        shape: Shape in the file, molecule axis included; of the first file where a
            source has one file per molecule.
        dtype: numpy dtype in the file.
        semantics_from: How the meaning was settled.
        unit_from: How the unit was settled.
        confidence: 0 to 1, of the weaker of the two.
        evidence: What speaks for it, a sentence each.
        n_present: Molecules that have a value.
    """

    semantics: str
    stored_as: str
    unit: str = ""
    shape: tuple[int, ...] = ()
    dtype: str = ""
    semantics_from: Origin
    unit_from: Origin = "default"
    confidence: float = Field(default=1.0, ge=0.0, le=1.0)
    evidence: tuple[str, ...] = ()
    n_present: int = Field(default=0, ge=0)

    @field_validator("semantics")
    @classmethod
    def _known(cls, value: str) -> str:
        if value not in SEMANTICS and value not in ("unknown", "metadata"):
            raise ValueError(f"unknown semantics {value!r}; expected one of {', '.join(SEMANTICS)}")
        return value

    def model_post_init(self, _context: object) -> None:
        """Refuses a unit that its quantity does not have."""
        if self.semantics in SEMANTICS and self.unit:
            parse_unit(self.unit, SEMANTICS[self.semantics].quantity)


class SourceRecord(_Record):
    """One source: a file, or the files that together hold the same molecules.

    Attributes:
        convention: Name of the adapter that read it.
        files: Files in the order they were read.
        n_molecules: Molecules stored from it.
        n_quarantined: Molecules set aside.
        first_molecule: Index in the store of its first molecule.
        level_of_theory: As declared, or from the file's metadata; empty if not known.
        declared: Declarations in force when it was ingested.
        keys: What each original key was taken to mean.
        metadata: Text of 0-d entries.
    """

    convention: str
    files: tuple[SourceFile, ...]
    n_molecules: int = Field(ge=0)
    n_quarantined: int = Field(default=0, ge=0)
    first_molecule: int = Field(default=0, ge=0)
    level_of_theory: str = ""
    declared: dict[str, str] = {}
    keys: dict[str, KeyRecord]
    metadata: dict[str, str] = {}
