"""Problems as people can act on them: where, what is wrong, what follows, what to do.

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
        wrong: What is wrong there: a clause, with what would be right where that helps.
        consequence: What follows for the user, a clause.
        remedy: What to do about it, a sentence without its full stop.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    place: str
    wrong: str
    consequence: str
    remedy: str

    def __str__(self) -> str:
        return (
            f"{self.place}: {self.wrong}; {self.consequence}. "
            f"{self.remedy}{'' if self.remedy.endswith('?') else '.'}"
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
    def of(cls, place: str, *, wrong: str, consequence: str, remedy: str) -> Self:
        """Makes the error of a single problem."""
        return cls([Problem(place=place, wrong=wrong, consequence=consequence, remedy=remedy)])


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
