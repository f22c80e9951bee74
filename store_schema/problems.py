"""Problems as people can act on them: where, what was expected, what was found, what follows.

Checks collect every problem before they report any, so that a file is mended in
one go.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Self

from pydantic import BaseModel, ConfigDict


class Problem(BaseModel):
    """One thing that is wrong.

    Attributes:
        place: File and key, store and variable, or field of a configuration.
        expected: What would have been right.
        received: What was found.
        consequence: What follows for the user.
        remedy: What to do about it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    place: str
    expected: str
    received: str
    consequence: str
    remedy: str

    def __str__(self) -> str:
        return (
            f"{self.place}: expected {self.expected}, found {self.received}; "
            f"{self.consequence}. {self.remedy}{'' if self.remedy.endswith('?') else '.'}"
        )


class DcmError(Exception):
    """Base of every error this package raises about its input; shown without a traceback.

    Attributes:
        problems: All problems found, at least one.
    """

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        if not self.problems:
            raise ValueError("DcmError needs at least one problem")
        super().__init__("\n".join(str(problem) for problem in self.problems))

    def __reduce__(self) -> tuple[type[Self], tuple[tuple[Problem, ...]]]:
        # Exceptions are made again of their text, which is not what this one takes.
        return type(self), (self.problems,)

    @classmethod
    def of(cls, place: str, *, expected: str, received: str, consequence: str, remedy: str) -> Self:
        """Makes the error of a single problem."""
        return cls(
            [
                Problem(
                    place=place,
                    expected=expected,
                    received=received,
                    consequence=consequence,
                    remedy=remedy,
                )
            ]
        )


class SourceError(DcmError):
    """A source file cannot be read as what it claims to be."""


class AmbiguityError(DcmError):
    """A key has several readings left; a declaration settles it."""


class StoreError(DcmError):
    """A store is missing, incomplete, or not what its schema says."""


class ConfigError(DcmError):
    """A configuration or a declaration is not valid."""


class CheckpointError(DcmError):
    """A checkpoint is missing, damaged, or of another model."""


class TrainingError(DcmError):
    """Training cannot start or continue."""
