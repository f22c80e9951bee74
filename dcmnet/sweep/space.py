"""What a sweep searches: fields of an experiment, their ranges, and how they are chosen."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from dcmnet.config import ExperimentConfig
from dcmnet.config_fields import Name, field_paths, parse, read_json
from store_schema.problems import ConfigError, Problem

Value = bool | int | float | str | None
# Fields that the sweep gives each trial itself.
_OWN = {("name",), ("out",), ("data", "store")}
# Where in a range its inside is tried: no whole number where those of the range are none.
_INSIDE = 0.618


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class FloatRange(_Part):
    """Numbers from ``low`` to ``high``, uniform, or uniform in their logarithm."""

    kind: Literal["float"]
    low: float
    high: float
    log: bool = False

    @model_validator(mode="after")
    def _is_a_range(self) -> Self:
        _check_range(self.low, self.high, self.log)
        return self

    def extremes(self) -> tuple[Value, ...]:
        """Returns values that show whether a field takes the range."""
        return self.low, self.low + _INSIDE * (self.high - self.low), self.high


class IntRange(_Part):
    """Whole numbers from ``low`` to ``high``, both included, ``step`` apart or logarithmic."""

    kind: Literal["int"]
    low: int
    high: int
    step: int = Field(default=1, ge=1)
    log: bool = False

    @model_validator(mode="after")
    def _is_a_range(self) -> Self:
        _check_range(self.low, self.high, self.log)
        if self.log and self.step > 1:
            raise ValueError("step and log do not go together")
        if (self.high - self.low) % self.step:
            raise ValueError(f"high ({self.high}) is not low plus a multiple of step ({self.step})")
        return self

    def extremes(self) -> tuple[Value, ...]:
        """Returns values that show whether a field takes the range."""
        return self.low, self.high


class Choice(_Part):
    """One of several values, without an order."""

    kind: Literal["choice"]
    values: tuple[Value, ...] = Field(min_length=2)

    @model_validator(mode="after")
    def _each_once(self) -> Self:
        if len({repr(value) for value in self.values}) < len(self.values):
            raise ValueError("a value is there twice")
        return self

    def extremes(self) -> tuple[Value, ...]:
        """Returns values that show whether a field takes them."""
        return self.values


Distribution = Annotated[FloatRange | IntRange | Choice, Field(discriminator="kind")]


class Sampling(_Part):
    """How values are chosen.

    Attributes:
        kind: ``tpe`` learns from the trials before, ``random`` does not.
        seed: With it and one worker, a sweep is repeatable.
        startup_trials: Trials chosen at random before ``tpe`` learns.
    """

    kind: Literal["tpe", "random"] = "tpe"
    seed: int = Field(default=0, ge=0)
    startup_trials: int = Field(default=10, ge=1)


class Pruning(_Part):
    """Which trials are ended early.

    Attributes:
        kind: ``median`` ends what is worse than half of the trials at the same epoch;
            ``halving`` keeps the best third at each rung of epochs; ``hyperband`` does so
            in several brackets; ``none`` ends nothing.
        startup_trials: Trials that ``median`` lets run to their end first.
        warmup_epochs: No trial is ended before the epoch after so many.
    """

    kind: Literal["median", "halving", "hyperband", "none"] = "median"
    startup_trials: int = Field(default=5, ge=0)
    warmup_epochs: int = Field(default=0, ge=0)


class SweepConfig(_Part):
    """A sweep.

    Attributes:
        name: Name of the sweep, of its folder, and what its experiments' names begin with.
        trials: Trials, pruned and failed ones included.
        search: Distributions of fields of ``ExperimentConfig``, by dotted or short name.
        fixed: Fields that all trials share; seeds of the training among them.
        preset: Settings to start from.
        metric: Validation metric to lower, as ``metrics.jsonl`` names it; where None, the
            one that decides which epoch is best (``esp_rmse``, or the loss without an ESP).
        sampler: How values are chosen.
        pruner: Which trials are ended early.
        heartbeat_seconds: How often a trial signs that it is alive. One that was silent for
            three times as long is taken up by another process.
        out: Directory in which the folder of the sweep is.
        store: The store; set by the command.
    """

    name: Name = "sweep"
    trials: int = Field(default=20, ge=1)
    search: dict[str, Distribution] = Field(min_length=1)
    fixed: dict[str, Any] = {}
    preset: str | None = None
    metric: str | None = None
    sampler: Sampling = Sampling()
    pruner: Pruning = Pruning()
    heartbeat_seconds: int = Field(default=20, ge=1)
    out: str = "experiments"
    store: str = ""

    @property
    def folder(self) -> Path:
        """The folder of the sweep."""
        return Path(self.out) / self.name

    def experiment(self, values: Mapping[str, object]) -> ExperimentConfig:
        """Returns the configuration of a trial with such values.

        Raises:
            ConfigError: The values do not go together.
        """
        from dcmnet.train_runner import make_config

        return make_config(None, self.preset, {**self.fixed, **values})


def load_space(path: str | Path) -> SweepConfig:
    """Reads a sweep from a JSON file and checks every field of it.

    Raises:
        ConfigError: The file is missing, not JSON, or holds wrong fields; all are listed.
    """
    return parse_space(read_json(path, "the space of a sweep (docs/sweeps.md)"))


def parse_space(fields: object) -> SweepConfig:
    """Checks a sweep: its own fields, and whether experiments take what it searches.

    Raises:
        ConfigError: Fields are wrong; all are listed.
    """
    parts = (SweepConfig, FloatRange, IntRange, Choice, Sampling, Pruning)
    known = dict.fromkeys(name for part in parts for name in part.model_fields)
    space = parse(SweepConfig, fields, known)
    if problems := [*_own_fields(space), *_fields_twice(space)] or _refused(space):
        raise ConfigError(problems)
    return space


def _check_range(low: float, high: float, log: bool) -> None:
    if not low < high:
        raise ValueError(f"low ({low:g}) must be below high ({high:g}); fix what does not vary")
    if log and low <= 0:
        raise ValueError(f"low ({low:g}) must be above 0 where log is true")


def _refused(space: SweepConfig) -> list[Problem]:
    """Returns what experiments have against the values at the ends of ranges, each once."""
    first = {name: searched.extremes()[0] for name, searched in space.search.items()}
    found: dict[str, Problem] = {}
    for name, searched in space.search.items():
        for value in searched.extremes():
            try:
                space.experiment({**first, name: value})
            except ConfigError as error:
                found |= {
                    f"{problem.place}: {problem.wrong}": problem for problem in error.problems
                }
    return list(found.values())


def _own_fields(space: SweepConfig) -> list[Problem]:
    paths = field_paths(ExperimentConfig)
    return [
        Problem(
            place=f"sweep, field {name!r}",
            wrong="the sweep sets this field for each trial",
            consequence="nothing was started",
            remedy="Leave it out; the sweep has a name, an out and a STORE of its own",
        )
        for name in [*space.search, *space.fixed]
        if paths.get(name) in _OWN
    ]


def _fields_twice(space: SweepConfig) -> list[Problem]:
    paths = field_paths(ExperimentConfig)
    names = [*space.search, *space.fixed]
    places = [paths.get(name) for name in names]
    return [
        Problem(
            place=f"sweep, field {name!r}",
            wrong="it is named twice, in search or fixed, or by its short and its dotted name",
            consequence="nothing was started",
            remedy="Keep one of them",
        )
        for index, name in enumerate(names)
        if places[index] is not None and places[index] in places[:index]
    ]
